from __future__ import annotations

from kd_bench.entries import Entry
from kd_bench.leaderboard.leading_group import leading_group
from small_boards import entry

NOISE = [(0.001, -0.002, 0.001), (-0.001, 0.0, 0.001), (0.0, 0.002, -0.002), (0.002, -0.001, -0.001)]


def board(student: str, **means: float) -> list[Entry]:
    return [
        entry(name, [mean + step for step in NOISE[place % 4]], student=student)
        for place, (name, mean) in enumerate(means.items())
    ]


def test_one_board_is_led_by_the_rows_that_nothing_is_above() -> None:
    found = leading_group(board("s1", plain=0.85, A=0.95, B=0.951, C=0.9))
    assert found.names == ("B", "A")
    assert found.proven == {"A", "B"}
    assert found.standings["plain"] == 0.85
    assert found.cautions == ()


def test_over_several_boards_average_ranks_decide() -> None:
    boards = [one for number in range(12) for one in board(f"s{number}", plain=0.90, A=0.95, B=0.949, C=0.94, D=0.91)]
    found = leading_group(boards)
    assert len(found.boards) == 12
    assert found.standings["A"] == -1
    assert found.names == ("A", "B")  # C is within a critical difference, but separated below A on the boards
    assert found.proven == {"A", "B"}


def test_where_each_board_has_another_leader_the_average_rank_alone_decides() -> None:
    names = "ABCDEF"
    boards = [
        one
        for number in range(6)
        for one in board(
            f"s{number}", **{name: 0.9 + 0.01 * ((place + number) % 6) for place, name in enumerate(names)}
        )
    ]
    found = leading_group(boards)
    assert set(found.standings.values()) == {-3.5}
    assert set(found.names) == set(names)


def test_few_boards_cannot_tell_ranks_apart_and_it_says_so() -> None:
    found = leading_group([*board("s1", plain=0.9, A=0.901, B=0.902), *board("s2", plain=0.9, A=0.901, B=0.902)])
    assert set(found.names) == {"plain", "A", "B"}
    assert found.proven == frozenset()
    assert "cannot tell any two of 3 methods apart" in found.cautions[0]


def test_boards_without_a_common_block_leave_the_largest() -> None:
    found = leading_group([*board("s1", plain=0.9, A=0.95), *board("s2", plain=0.9, X=0.95, Y=0.94)])
    assert [key.student for key in found.boards] == ["s2"]
    assert "largest" not in found.cautions[0]
    assert "s2 has most and decides" in found.cautions[0]
