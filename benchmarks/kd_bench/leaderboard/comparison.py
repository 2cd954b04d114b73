"""Two methods against each other on every board that both are on, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.boards import BoardKey, board_key, group_boards, run_set_of
from kd_bench.leaderboard.columns import ScoreColumn, columns_of
from kd_bench.leaderboard.lookup import find_method
from kd_bench.leaderboard.summary import relative_time, shared_headlines
from kd_bench.results import PLAIN, RunSet, TaskName
from kd_bench.statistics import (
    BootstrapInterval,
    MeanInterval,
    PairedTest,
    bootstrap_interval,
    gap_closed,
    mean_interval,
    paired_test,
    sign_flip_p_values,
    sign_test_p_values,
)


@dataclass(frozen=True)
class ScoreComparison:
    """A score beside the headline, on the seeds that both have it for.

    Attributes:
        first: mean of the first method.
        second: mean of the second.
        test: their difference, paired by seed.
    """

    first: float
    second: float
    test: PairedTest


@dataclass(frozen=True)
class BoardComparison:
    """Two methods on one board; every difference is (first - second).

    Attributes:
        board: which board.
        task: what the networks do.
        seeds: the seeds that both have, ascending.
        first: headline of the first method, over all of its seeds.
        second: headline of the second.
        test: the headline, paired by seed; ``None`` with fewer than two shared seeds.
        bootstrap: the same difference with a bootstrap interval.
        scores: key of :func:`~kd_bench.leaderboard.columns.columns_of` → that score of both.
        time_ratio: median training time of the first over that of the second; ``None`` on different machines.
        memory_ratio: the same of the peak memory.
        first_gap: share of the gap to the teacher that the first closes; ``None`` without a plain row.
        second_gap: share that the second closes.
        cautions: what stands in the way of the comparison, in sentences.
    """

    board: BoardKey
    task: TaskName
    seeds: tuple[int, ...]
    first: MeanInterval
    second: MeanInterval
    test: PairedTest | None
    bootstrap: BootstrapInterval | None
    scores: dict[str, ScoreComparison]
    time_ratio: float | None
    memory_ratio: float | None
    first_gap: float | None
    second_gap: float | None
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class Overall:
    """The differences of several boards taken together: each board counts once.

    Attributes:
        boards: number of boards.
        ahead: on how many of them the first method has the higher mean.
        behind: on how many the second has.
        difference: mean of the boards' differences with its t interval; boards stand for all boards that might be.
        sign_flip_p: exact sign-flip test over the boards.
        sign_p: exact sign test over the boards.
    """

    boards: int
    ahead: int
    behind: int
    difference: MeanInterval
    sign_flip_p: float
    sign_p: float


@dataclass(frozen=True)
class Comparison:
    """Two methods on all boards that both are on.

    Attributes:
        first: name of the first method.
        second: name of the second.
        boards: board by board, in the order of their keys.
        overall: for each task with at least two boards that share seeds, all of them together.
    """

    first: str
    second: str
    boards: tuple[BoardComparison, ...]
    overall: dict[TaskName, Overall]


def compare(
    entries: Sequence[Entry], first: str, second: str, *, protocol: str | None = None, pair: str | None = None
) -> Comparison:
    """Compare two methods wherever both were run.

    Args:
        entries: those of a leaderboard.
        first: name of a method, or path of an entry, ``<protocol>/<method>/<student>__<teacher>``.
        second: the other, likewise.
        protocol: id of the only protocol to look at.
        pair: the only pair, ``<student>__<teacher>``, or the name of its student.

    Raises:
        UserError: if a name is unknown, both are the same, or no board has both.
    """
    ours, theirs = (find_method(entries, name, protocol=protocol, pair=pair) for name in (first, second))
    boards = {board_key(entry): entry for entry in theirs.entries}
    common = [(entry, boards[board_key(entry)]) for entry in ours.entries if board_key(entry) in boards]
    if ours.name == theirs.name:
        raise UserError(f"{first!r} and {second!r} are the same method, {ours.name}. Name two different ones.")
    if not common:
        raise UserError(
            f"no board has both {ours.name} and {theirs.name}: {ours.name} is on {_places(ours.entries)}; "
            f"{theirs.name} is on {_places(theirs.entries)}. Run the one that is missing: `lightning-kd bench run "
            f"PROTOCOL --methods {ours.name},{theirs.name}`."
        )
    plain = {board_key(entry): entry.run_set for entry in entries if entry.run_set.method.name == PLAIN}
    found = tuple(
        sorted(
            (compare_entries(one, other, plain.get(board_key(one))) for one, other in common),
            key=lambda comparison: comparison.board,
        )
    )
    tasks = sorted({comparison.task for comparison in found})
    overall = {task: _overall([one for one in found if one.task == task]) for task in tasks}
    return Comparison(ours.name, theirs.name, found, {task: one for task, one in overall.items() if one is not None})


def compare_entries(first: Entry | RunSet, second: Entry | RunSet, plain: RunSet | None = None) -> BoardComparison:
    """Compare two entries of one board.

    Args:
        first: one of them.
        second: the other.
        plain: the plain student of the board, for the gap closed.

    Raises:
        UserError: if they are on different boards.
    """
    ours, theirs = run_set_of(first), run_set_of(second)
    if board_key(ours) != board_key(theirs):
        raise UserError(
            f"cannot compare across boards: {ours.method.name} is from {board_key(ours).label}, {theirs.method.name} "
            f"from {board_key(theirs).label}"
        )
    seeds, our_headlines, their_headlines = shared_headlines(ours, theirs)
    paired = len(seeds) >= 2
    differences = [one - other for one, other in zip(our_headlines, their_headlines, strict=True)]
    return BoardComparison(
        board=board_key(ours),
        task=ours.task,
        seeds=seeds,
        first=mean_interval(ours.headlines()),
        second=mean_interval(theirs.headlines()),
        test=paired_test(our_headlines, their_headlines) if paired else None,
        bootstrap=bootstrap_interval(differences) if paired else None,
        scores=_scores(ours, theirs, seeds) if paired else {},
        time_ratio=relative_time(ours, theirs),
        memory_ratio=_memory_ratio(ours, theirs),
        first_gap=_gap(ours, plain),
        second_gap=_gap(theirs, plain),
        cautions=tuple(_cautions(first, second)),
    )


def _scores(ours: RunSet, theirs: RunSet, seeds: Sequence[int]) -> dict[str, ScoreComparison]:
    found = {}
    for column in columns_of(ours.task).others:
        sides = [_by_seed(run_set, column) for run_set in (ours, theirs)]
        known = [seed for seed in seeds if all(side[seed] is not None for side in sides)]
        first, second = ([value for seed in known if (value := side[seed]) is not None] for side in sides)
        if len(known) >= 2:
            found[column.key] = ScoreComparison(fmean(first), fmean(second), paired_test(first, second))
    return found


def _by_seed(run_set: RunSet, column: ScoreColumn) -> dict[int, float | None]:
    return {run.seed: column.value(run_set.model_copy(update={"runs": (run,)})) for run in run_set.runs}


def _memory_ratio(ours: RunSet, theirs: RunSet) -> float | None:
    peaks = [max((run.peak_memory_mb or 0.0 for run in run_set.runs), default=0.0) for run_set in (ours, theirs)]
    same_kind = {run.device for run in ours.runs} == {run.device for run in theirs.runs}
    return peaks[0] / peaks[1] if all(peaks) and same_kind else None


def _gap(run_set: RunSet, plain: RunSet | None) -> float | None:
    if plain is None:
        return None
    return gap_closed(fmean(run_set.headlines()), fmean(plain.headlines()), run_set.teacher.headline)


def _cautions(first: Entry | RunSet, second: Entry | RunSet) -> list[str]:
    ours, theirs = run_set_of(first), run_set_of(second)
    found = []
    if ours.teacher.weights_sha256 != theirs.teacher.weights_sha256:
        found.append("They were distilled from different weights of the teacher.")
    if ours.protocol.hash != theirs.protocol.hash:
        found.append("They were made under different recipes of the protocol.")
    for entry in (first, second):
        run_set = run_set_of(entry)
        if run_set.extra_data:
            found.append(f"{run_set.method.name} used data beyond the protocol's training split.")
        if run_set.track == "tuned":
            found.append(f"{run_set.method.name} was tuned for this pair.")
        if isinstance(entry, Entry) and entry.withdrawn:
            found.append(f"{run_set.method.name} was withdrawn.")
        if isinstance(entry, Entry) and entry.challenged:
            found.append(f"{run_set.method.name} is challenged.")
    return found


def _overall(boards: Sequence[BoardComparison]) -> Overall | None:
    differences = [round(board.test.difference, 12) for board in boards if board.test is not None]
    if len(differences) < 2:
        return None
    return Overall(
        boards=len(differences),
        ahead=sum(difference > 0 for difference in differences),
        behind=sum(difference < 0 for difference in differences),
        difference=mean_interval(differences),
        sign_flip_p=float(sign_flip_p_values(differences)[0]),
        sign_p=float(sign_test_p_values(differences)[0]),
    )


def _places(entries: Sequence[Entry]) -> str:
    labels = [key.label for key in group_boards(entries)]
    more = len(labels) - 3
    return "; ".join(labels[:3]) + (f" and {more} more" if more > 0 else "")
