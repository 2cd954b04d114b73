"""What `lightning-kd leaderboard compare` shows: a verdict in words, a table, and what the tests can and cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from kd_bench.leaderboard.columns import ScoreColumn, columns_of
from kd_bench.leaderboard.comparison import BoardComparison, Comparison, Overall, ScoreComparison
from kd_bench.statistics import PairedTest
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lightning_kd.cli.numbers import MISSING, percent, points, share, times

_UNDECIDED = "not separated"

IN_FULL = 3
"""Up to this many boards are shown in full; more as one line each."""


def comparison_report(comparison: Comparison) -> Iterator[RenderableType]:
    """The parts to print.

    Args:
        comparison: of two methods.
    """
    names = comparison.first, comparison.second
    if len(comparison.boards) <= IN_FULL:
        for board in comparison.boards:
            yield from _board(board, names)
            yield ""
    else:
        yield _lines(comparison)
        yield Text(
            "Each line is a test of its own: of 20 boards without any difference one is separated by chance. Name one "
            "with --protocol and --pair to see it in full.",
            style="dim",
        )
    for task, overall in comparison.overall.items():
        yield _overall(overall, names, columns_of(task).headline)


def _board(board: BoardComparison, names: tuple[str, str]) -> Iterator[RenderableType]:
    first, second = names
    yield Text(board.board.label, style="bold")
    test, task = board.test, columns_of(board.task)
    if test is None:
        yield Text(f"{first} and {second} share {len(board.seeds)} seeds; two are needed to compare them.")
    else:
        yield Text(_verdict(test, names, task.headline))
    table = Table()
    table.add_column(no_wrap=True)
    for name in names:
        table.add_column(_folded(name, 12), justify="right", no_wrap=True)
    table.add_column("first - second\n± 95 %", justify="right", no_wrap=True)
    table.add_column("better", no_wrap=True)
    table.add_row(
        f"{task.headline} %",
        percent(board.first.mean),
        percent(board.second.mean),
        MISSING if test is None else points(test.difference, test.half_width),
        MISSING if test is None else _better(test, names, higher_is_better=True),
    )
    for column in task.others:
        if column.key in board.scores:
            table.add_row(*_score(column, board.scores[column.key], names))
    table.add_row("gap closed", share(board.first_gap), share(board.second_gap), "", "")
    for label, ratio in (("training time", board.time_ratio), ("peak memory", board.memory_ratio)):
        table.add_row(label, "", "", MISSING if ratio is None else f"{times(ratio)} times", "")
    yield table
    if test is not None:
        yield Text(_tests(board, test, names, task.headline), style="dim")
    for caution in board.cautions:
        yield Text(f"Caution: {caution}", style="yellow")


def _score(column: ScoreColumn, score: ScoreComparison, names: tuple[str, str]) -> Sequence[str]:
    label = f"{column.title} {column.unit}".rstrip()
    one, other, difference, half_width = (
        f"{column.factor * value:.{column.digits}f}"
        for value in (score.first, score.second, score.test.difference, score.test.half_width)
    )
    sign = "" if difference.startswith("-") else "+"
    better = _better(score.test, names, higher_is_better=column.first == "descending")
    return label, one, other, f"{sign}{difference} ± {half_width}", better


def _better(test: PairedTest, names: tuple[str, str], *, higher_is_better: bool) -> str:
    if not test.separated:
        return _UNDECIDED
    return _folded(names[0] if (test.difference > 0) == higher_is_better else names[1], len(_UNDECIDED))


def _folded(name: str, width: int) -> str:
    """Names of methods may be longer than what the other columns leave of a terminal, and have no spaces."""
    return "\n".join(wrap(name, width, break_on_hyphens=False))


def _verdict(test: PairedTest, names: tuple[str, str], headline: str) -> str:
    first, second = names
    if test.separated:
        upper, lower = (first, second) if test.difference > 0 else (second, first)
        difference = percent(abs(test.difference))
        return (
            f"{upper} is above {lower}: {difference} ± {percent(test.half_width)} points of {headline} over {test.n} "
            "shared seeds."
        )
    return f"{test.n} shared seeds do not tell {first} and {second} apart in {headline}."


def _tests(board: BoardComparison, test: PairedTest, names: tuple[str, str], headline: str) -> str:
    text = (
        f"{headline[0].upper()}{headline[1:]}, paired by seed (95 % t intervals): paired t test p = "
        f"{test.t_p_value:.2g}, sign-flip test p = {test.p_value:.2g}, sign test p = "
        f"{test.sign_p_value:.2g}; the last two cannot go below {2.0 ** (1 - test.n):.2g} with {test.n} seeds."
    )
    if board.bootstrap is not None:
        low, high = f"{100 * board.bootstrap.low:+.2f}", f"{100 * board.bootstrap.high:+.2f}"
        few = f"; too narrow, {test.n} seeds have only {board.bootstrap.resamples} different resamples"
        text += f" Bootstrap interval {low} to {high} ({board.bootstrap.method}"
        text += f"{few if board.bootstrap.too_narrow else ''})."
    if test.effect_size is not None:
        text += f" Effect size g = {test.effect_size:.2f} standard deviations of the differences."
    if (board.first.n, board.second.n) != (test.n, test.n):
        text += f" Means are over all seeds: {board.first.n} of {names[0]}, {board.second.n} of {names[1]}."
    return text


def _lines(comparison: Comparison) -> Table:
    table = Table()
    table.add_column("board", overflow="fold")
    for name in (comparison.first, comparison.second):
        table.add_column(_folded(name, 8), justify="right", no_wrap=True)
    for header in ("first - second\npoints ± 95 %", "p (t)", "time\nratio"):
        table.add_column(header, justify="right", no_wrap=True)
    for board in comparison.boards:
        test = board.test
        mark = "" if test is None else ("= " if not test.separated else "▲ " if test.difference > 0 else "▼ ")
        table.add_row(
            board.board.label,
            percent(board.first.mean),
            percent(board.second.mean),
            MISSING if test is None else mark + points(test.difference, test.half_width),
            MISSING if test is None else f"{test.t_p_value:.2g}",
            times(board.time_ratio),
        )
    return table


def _overall(overall: Overall, names: tuple[str, str], headline: str) -> Text:
    first, second = names
    difference = overall.difference
    assert difference.half_width is not None
    return Text(
        f"Over {overall.boards} boards, each counted once: {first} has the higher {headline} on {overall.ahead}, "
        f"{second} on {overall.behind}; mean difference {points(difference.mean, difference.half_width)} points "
        f"(95 % t interval over the boards), sign-flip test p = {overall.sign_flip_p:.2g}, sign test p = "
        f"{overall.sign_p:.2g}{_floor(overall.boards)}."
    )


def _floor(boards: int) -> str:
    """Where it matters, how small the p-values of exact tests can become."""
    smallest = 2.0 ** (1 - boards)
    return f"; they cannot go below {smallest:.2g} with {boards} boards" if smallest > 0.001 else ""
