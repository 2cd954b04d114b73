"""The comment that a reviewer finds under a submission: what was checked, how it compares, what to look at twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from kd_bench.corrections import Correction
from kd_bench.entries import Entry, load_entries
from kd_bench.leaderboard.boards import BoardKey, board_key, group_boards, standing
from kd_bench.leaderboard.columns import columns_of
from kd_bench.leaderboard.ranking import rank_board, seed_matrix
from kd_bench.leaderboard.summary import summarize
from kd_bench.results import PLAIN
from kd_bench.statistics import pairwise_comparisons
from kd_bench.storage import write_atomic
from kd_bench.submission.changes import new_entries
from kd_bench.submission.check import CheckReport
from kd_bench.submission.markdown import code, code_block, plain_text, table
from kd_bench.submission.new_corrections import new_corrections
from kd_bench.submission.outliers import unusual
from kd_bench.submission.published import Published
from kd_bench.verification.record import LEVELS

MAX_CHARACTERS = 60_000
"""GitHub takes 65,536."""

MAX_ENTRIES = 40
MAX_LINES = 50

NOTHING = "-"


def write_comment(
    path: Path | str, report: CheckReport, leaderboards: Path | str, base: Path | str | None = None
) -> Path:
    """Write the comment on a submission.

    Args:
        path: the Markdown file to write.
        report: what the check found.
        leaderboards: the folder with the submission in it.
        base: the same folder before; without one, everything that was checked counts as new.

    Returns:
        The file.
    """
    entries: list[Entry] = []
    new: list[str] = []
    corrections: list[Correction] = []
    if report.ok:  # otherwise there may be anything in the files
        entries = load_entries(leaderboards)
        if base is None:
            new = sorted({"/".join(Path(given).absolute().parts[-3:]) for given in report.entries})
        else:
            new = new_entries(leaderboards, base)
            corrections, _ = new_corrections(Published(Path(leaderboards)), Published(Path(base)))
    write_atomic(Path(path), submission_comment(report, entries, new, corrections).encode())
    return Path(path)


def submission_comment(
    report: CheckReport, entries: Sequence[Entry], new: Sequence[str], corrections: Sequence[Correction] = ()
) -> str:
    """The comment, as Markdown in which nothing of the submission's own text comes to life.

    Args:
        report: what the check found.
        entries: all entries of the leaderboards, the submission's included.
        new: paths of those that the submission brings or changes.
        corrections: those that it brings.
    """
    parts = [_heading(report, new), *_problems(report)]
    if report.ok:
        wanted = set(new)
        submitted = [entry for entry in entries if entry.path in wanted]
        boards = {
            key: board for key, board in group_boards(entries).items() if any(one.path in wanted for one in board)
        }
        parts += _tables(submitted[:MAX_ENTRIES], boards)
        if len(submitted) > MAX_ENTRIES:
            parts.append(f"The first {MAX_ENTRIES} of {len(submitted)} entries are shown.")
        parts += _flags(submitted[:MAX_ENTRIES], boards)
        parts += _corrections(corrections)
    parts += _notices(report)
    return _bounded("\n\n".join(parts) + "\n")


def _heading(report: CheckReport, new: Sequence[str]) -> str:
    if not report.ok:
        return f"## Submission: refused, {_count(len(report.problems), 'problem')}"
    heading = f"## Submission: nothing refused, {_count(len(new), 'new or changed entry', 'new or changed entries')}"
    if not new:
        return heading
    return f"{heading}\n\nEvery score was recomputed from the predictions. Nothing of the submission was run."


def _problems(report: CheckReport) -> Iterator[str]:
    if report.problems:
        yield code_block([str(problem) for problem in report.problems[:MAX_LINES]])
        if len(report.problems) > MAX_LINES:
            yield f"The first {MAX_LINES} of {len(report.problems)} problems are shown."
        yield "The same check on your machine: `lightning-kd leaderboard check leaderboards --base-ref origin/main`"


def _notices(report: CheckReport) -> Iterator[str]:
    if report.notices:
        yield "### To confirm"
        yield code_block([str(notice) for notice in report.notices[:MAX_LINES]])
        if len(report.notices) > MAX_LINES:
            yield f"The first {MAX_LINES} of {len(report.notices)} are shown."


def _tables(submitted: Sequence[Entry], boards: Mapping[BoardKey, Sequence[Entry]]) -> Iterator[str]:
    """A table a task, for tasks are judged by different scores."""
    by_task = sorted(submitted, key=lambda entry: (entry.run_set.task, entry.path))
    for task, group in groupby(by_task, key=lambda entry: entry.run_set.task):
        columns = columns_of(task)
        references = list(dict.fromkeys([PLAIN, columns.reference]))
        shown = [column for column in columns.others if column.in_terminal]
        against = [text for name in references for text in (f"against {name}", "p")]
        units = [f"{column.title}, {column.unit}" for column in shown]
        headings = ["entry", f"{columns.headline}, %", *against, *units, "time / plain", "rank", "badge"]
        rows = [_row(entry, boards[board_key(entry)], references, [column.key for column in shown]) for entry in group]
        yield table(headings, rows)
        yield (
            f"{columns.meaning}, mean with 95 % t interval over the seeds. *against*: difference in points, paired by "
            "seed; *p*: paired t test with moderated variances, adjusted by Holm for all pairs of the board. *rank*: "
            "the places that the seeds leave open, with the group. *time*: median, if run on the same kind of machine."
        )


def _row(entry: Entry, board: Sequence[Entry], references: Sequence[str], keys: Sequence[str]) -> list[str]:
    run_sets = standing(board)
    names = [run_set.method.name for run_set in run_sets]
    mine = entry.run_set.method.name
    if mine not in names:  # withdrawn in the same pull request
        return [code(entry.path), *[NOTHING] * (2 * len(references) + len(keys) + 3), "withdrawn"]
    found = pairwise_comparisons(seed_matrix(run_sets))
    cells = []
    for name in references:
        place = (names.index(mine), names.index(name)) if name in names else None
        if place is None or name == mine or found.seeds[place] < 2:
            cells += [NOTHING, NOTHING]
        else:
            cells += [f"{100 * found.difference[place]:+.2f}", _p(found.p_value[place])]
    summary = next(row for row in summarize(run_sets, references[-1]) if row.name == mine)
    ranked = next(row for row in rank_board(run_sets) if row.name == mine)
    spread = "" if summary.headline.half_width is None else f" ± {100 * summary.headline.half_width:.2f}"
    columns = {column.key: column for column in columns_of(entry.run_set.task).others}
    scores = [
        NOTHING if (value := summary.others[key]) is None else f"{columns[key].factor * value:.{columns[key].digits}f}"
        for key in keys
    ]
    time = NOTHING if summary.relative_time is None else f"{summary.relative_time:.2f}"
    # the check has just recomputed everything
    badge = max(entry.badge, LEVELS[1], key=LEVELS.index)
    rank = f"{ranked.rank} of {len(names)}, {ranked.group}"
    return [code(entry.path), f"{100 * summary.headline.mean:.2f}{spread}", *cells, *scores, time, rank, badge]


def _flags(submitted: Sequence[Entry], boards: Mapping[BoardKey, Sequence[Entry]]) -> Iterator[str]:
    lines = [
        f"* {code(entry.path)}: **{flag.rule}**: {plain_text(flag.message)}"
        for entry in submitted
        for flag in unusual(entry, boards[board_key(entry)])
    ]
    if lines:
        yield "### Look twice"
        yield "\n".join(lines)
        yield "None of this is a reproach; it says where an entry is unlike the others of its board."
    elif submitted:
        yield "Nothing is unusual beside the other rows of its board."


def _corrections(corrections: Sequence[Correction]) -> Iterator[str]:
    if corrections:
        yield "### Corrections"
        yield "\n".join(
            f"* {one.kind} of {code(one.entry)} by {code(one.by)}: {plain_text(one.reason)}"
            for one in corrections[:MAX_LINES]
        )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "\N{LESS-THAN OR EQUAL TO} 0.001"


def _bounded(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    kept = text[: MAX_CHARACTERS - 200].rpartition("\n")[0]
    # a block of code that was cut open would swallow what follows
    closing = "\n```" if kept.count("\n```") % 2 else ""
    return f"{kept}{closing}\n\nThe rest does not fit into a comment; see the log of the check.\n"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
