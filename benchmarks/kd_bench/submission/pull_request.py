"""Check what a pull request changes, against the commit that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kd_bench.corrections import CORRECTIONS
from kd_bench.entries import RESULTS
from kd_bench.errors import UserError
from kd_bench.submission.base_tree import base_tree
from kd_bench.submission.changes import other_changes, refused_kinds
from kd_bench.submission.check import CheckReport, check
from kd_bench.submission.comment import write_comment
from kd_bench.submission.problem import Problem, shown
from kd_bench.submission.published import Published
from kd_bench.submission.schema import SCHEMA
from kd_bench.submission.targets import leaderboards_of
from kd_bench.submission.teachers import REGISTRY


def check_pull_request(
    paths: Sequence[Path | str],
    ref: str,
    *,
    leaderboards: Path | str | None = None,
    maintainer: bool = False,
    comment: Path | str | None = None,
) -> CheckReport:
    """Check the entries that differ from a branch, and that nothing else was done to the leaderboards.

    Args:
        paths: whole ``leaderboards``, of which only what was changed is looked at; or what to look at in any case.
        ref: branch, tag or commit that the pull request goes to, such as ``origin/main``.
        leaderboards: those that the paths lie in; by default they are looked for.
        maintainer: whether a maintainer answers for it; see :func:`kd_bench.submission.changes.compare_with_base`.
        comment: Markdown file to write for the reviewer.

    Raises:
        UserError: if the paths lie in no leaderboards, or git does not know the branch.
    """
    around = leaderboards_of(Path(paths[0])) if leaderboards is None else Path(leaderboards)
    if around is None:
        raise UserError(f"{shown(paths[0])} lies in no leaderboards; give the leaderboards folder of a checkout.")
    if Path(paths[0]).absolute() == around:
        around = Path(paths[0])  # problems are then named as the user would
    with base_tree(around, ref) as tree:
        now, before = Published(around), Published(tree.folder)
        wanted = [path for path in map(Path, paths) if path.absolute() != around.absolute()]
        if len(wanted) < len(paths):
            wanted += changed_paths(now, before)
        report = check(wanted, base=tree.folder, leaderboards=around, maintainer=maintainer)
        report = replace(
            report,
            problems=(*report.problems, *_strays(now, before), *refused_kinds(tree)),
            notices=(*report.notices, *other_changes(tree)),
        )
        if comment is not None:
            write_comment(comment, report, around, tree.folder)
    return report


def changed_paths(now: Published, before: Published) -> list[Path]:
    """Entries, corrections and other data files of which anything differs.

    Args:
        now: the leaderboards with the pull request.
        before: without.
    """
    entries = [
        now.folder(entry)
        for entry in sorted(now.entries)
        if now.files(entry) != before.files(entry)
        or not all(now.same(f"{RESULTS}/{entry}/{name}", before) for name in now.files(entry))
    ]
    files = [
        now.root / path
        for path in (*sorted(now.corrections), REGISTRY, SCHEMA)
        if now.is_file(path) and not now.same(path, before)
    ]
    return [*entries, *files]


def _strays(now: Published, before: Published) -> list[Problem]:
    return [
        Problem(path, "files", f"belongs to no entry; {RESULTS}/ holds <protocol>/<method>/<student>__<teacher> only")
        for path in now.loose
        if path not in before.loose
    ] + [
        Problem(path, "files", f"does not belong here; {CORRECTIONS}/ holds only <id>.json")
        for path in sorted(now.corrections - before.corrections)
        if path.count("/") > 1 or not path.endswith(".json")
    ]
