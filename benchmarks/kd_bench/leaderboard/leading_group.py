"""The methods that no other is shown to beat: on one board, or over several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.entries import Entry
from kd_bench.leaderboard.boards import BoardKey, group_boards, standing
from kd_bench.leaderboard.critical_difference import critical_difference_diagram
from kd_bench.leaderboard.ranking import rank_board, rows_above
from kd_bench.results import PLAIN


@dataclass(frozen=True)
class LeadingGroup:
    """Who leads.

    Attributes:
        boards: the boards that decide.
        standings: method → mean headline on the only board, or minus the average rank over several; higher is better.
        names: the methods that lead, best standing first, then by name; the plain student may be one of them.
        proven: those that are separated above the plain student on at least one of the boards.
        cautions: what the data cannot decide, in sentences.
    """

    boards: tuple[BoardKey, ...]
    standings: dict[str, float]
    names: tuple[str, ...]
    proven: frozenset[str]
    cautions: tuple[str, ...]


def leading_group(entries: Sequence[Entry]) -> LeadingGroup:
    """The methods that no other is separated above.

    Over several boards a method leads whose average rank lies within one critical difference of the best. Few boards
    make that a long way, so a method with a row separated above it on half of them or more does not lead, if any other
    does. Where too few methods are on several boards, the largest board decides.

    Args:
        entries: those that count, at least one; withdrawn ones are left out.
    """
    boards = group_boards(entries)
    diagram = critical_difference_diagram(entries) if len(boards) > 1 else None
    cautions = []
    if diagram is not None:
        keys = diagram.boards
        standings = {method.name: -method.rank for method in diagram.methods}
        lowest = max(standings.values()) - diagram.critical_difference - 1e-9
        if not diagram.separates:
            cautions.append(
                f"Average ranks over {len(keys)} boards cannot tell any two of {len(standings)} methods apart "
                f"(critical difference {diagram.critical_difference:.1f} places)."
            )
    else:
        methods = {key: sum(row.method.name != PLAIN for row in standing(board)) for key, board in boards.items()}
        keys = (min(boards, key=lambda key: (-methods[key], key)),)
        standings = {row.name: row.mean for row in rank_board(boards[keys[0]])}
        lowest = min(standings.values())
        if len(boards) > 1:
            cautions.append(
                f"Too few methods are on several boards to average ranks; {keys[0].label} has most and decides."
            )
    behind = Counter(row.name for key in keys for row in rank_board(boards[key]) if not row.leading)
    near = [name for name, height in standings.items() if height >= lowest]
    names = [name for name in near if 2 * behind[name] < len(keys)] or near
    proven = frozenset(name for key in keys for name in rows_above(boards[key], PLAIN))
    return LeadingGroup(
        keys,
        standings,
        tuple(sorted(names, key=lambda name: (-standings[name], name))),
        proven & set(names),
        tuple(cautions),
    )
