from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.leaderboard.recommendation import recommend
from small_boards import entry

NOISE = [(0.001, -0.002, 0.001), (-0.001, 0.0, 0.001), (0.0, 0.002, -0.002), (0.002, -0.001, -0.001)]


def row(name: str, mean: float, place: int, **details: object) -> Entry:
    return entry(name, [mean + step for step in NOISE[place]], **details)


def board(**details: object) -> list[Entry]:
    return [
        row("plain", 0.85, 0, seconds=10, **details),
        row("Cheap", 0.950, 1, seconds=12, **details),
        row("Dear", 0.952, 2, seconds=30, **details),
        row("Waste", 0.949, 3, seconds=40, **details),
        row("Worse", 0.900, 0, seconds=11, family="features", **details),
    ]


def names(entries: list[Entry], **asked: object) -> list[str]:
    return [candidate.name for candidate in recommend(entries, **asked).candidates]


def test_the_leading_group_is_tried_cheapest_first_without_what_costs_more_and_gains_nothing() -> None:
    found = recommend(board())
    assert [candidate.name for candidate in found.candidates] == ["Cheap", "Dear"]
    assert found.tied == ("Waste",)
    assert found.considered == 4
    first = found.candidates[0]
    assert first.time == pytest.approx(1.2)
    assert [one.rank for one in first.evidence] == ["1\N{EN DASH}3"]
    assert first.evidence[0].against_plain is not None
    assert first.evidence[0].against_plain.test is not None
    assert first.evidence[0].against_plain.test.difference == pytest.approx(0.1)


def test_a_budget_leaves_out_what_takes_longer_and_says_so() -> None:
    found = recommend(board(), budget=1.15)
    assert [candidate.name for candidate in found.candidates] == ["Worse"]
    assert found.over_budget == pytest.approx({"Cheap": 1.2, "Dear": 3.0, "Waste": 4.0})
    assert list(found.over_budget) == ["Cheap", "Dear", "Waste"]
    with pytest.raises(UserError, match=r"none is known to train within 1.05 .*the cheapest of 4 is Worse with 1.10"):
        recommend(board(), budget=1.05)


def test_times_of_other_machines_do_not_count() -> None:
    entries = [*board(), row("Elsewhere", 0.97, 1, cpu="Another CPU")]
    found = recommend(entries, budget=2.0)
    assert found.unknown_time == ("Elsewhere",)
    assert [candidate.name for candidate in found.candidates] == ["Cheap"]
    only = recommend(entries)
    assert [candidate.name for candidate in only.candidates] == ["Elsewhere"]
    assert "training time is unknown" in " ".join(only.candidates[0].caveats)


def test_a_family_is_compared_among_itself() -> None:
    assert names(board(), family="features") == ["Worse"]
    with pytest.raises(UserError, match=r"unknown family 'feature'.*Did you mean 'features'"):
        recommend(board(), family="feature")


def test_withdrawn_entries_are_never_recommended() -> None:
    entries = [row("plain", 0.85, 0), row("Gone", 0.95, 1), row("KD", 0.90, 2)]
    gone = entry("Gone", [0.95, 0.95, 0.95], "withdrawal")
    assert names(entries) == ["Gone"]
    assert names([entries[0], gone, entries[2]]) == ["KD"]
    with pytest.raises(UserError, match="no results"):
        recommend([gone])


def test_where_nothing_is_shown_to_gain_it_says_so() -> None:
    level = [row("plain", 0.9, 0), row("A", 0.9005, 1), row("B", 0.8995, 2)]
    found = recommend(level)
    assert [candidate.name for candidate in found.candidates] == ["A"]
    assert "may gain nothing" in found.cautions[0]
    assert "Not separated from the plain student" in " ".join(found.candidates[0].caveats)
    below = recommend([row("plain", 0.95, 0), row("A", 0.90, 1), row("B", 0.85, 2)])
    assert [candidate.name for candidate in below.candidates] == ["A"]
    assert "No method stands above the plain student" in below.cautions[0]
    alone = recommend([row("A", 0.90, 1), row("B", 0.85, 2)])
    assert "no plain student" in alone.cautions[0]


def test_caveats_name_what_to_know() -> None:
    entries = [
        entry("plain", [0.85, 0.85, 0.85], ece=0.01),
        entry("KD", [0.95, 0.951, 0.952], "challenge", ece=0.3, track="tuned", extra_data=True),
    ]
    text = " ".join(recommend(entries).candidates[0].caveats)
    for part in ("Only 3 seeds", "badge: claimed", "less calibrated", "challenges", "tuned for the pair", "beyond the"):
        assert part in text


def test_evidence_comes_from_the_nearest_boards_and_the_others_are_named() -> None:
    other = [row("plain", 0.7, 0, student="other"), row("Dear", 0.9, 1, student="other")]
    found = recommend([*board(), *other], student="mini_cnn4")
    assert found.nearest.level == "same student"
    dear = found.candidates[1]
    assert [one.board.student for one in dear.evidence] == ["mini_cnn4"]
    assert [(one.board.student, one.rank, one.rows) for one in dear.elsewhere] == [("other", "1", 2)]
    assert names([*board(), *other], student="other") == ["Dear"]


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["plain", "A", "B", "C"]), st.sampled_from(["s1", "s2", "s3"])),
        st.lists(st.integers(300, 360).map(lambda number: number / 360), min_size=1, max_size=4),
    ),
    st.sampled_from([None, "s1", "s4"]),
    st.sampled_from([None, 0.5, 1.0]),
)
def test_any_results_give_a_method_or_a_reason(
    scores: dict[tuple[str, str], list[float]], student: str | None, budget: float | None
) -> None:
    entries = [entry(name, values, student=where) for (name, where), values in scores.items()]
    try:
        candidates, reason = recommend(entries, student=student, budget=budget).candidates, ""
    except UserError as error:
        candidates, reason = (), str(error)
    if reason:
        assert budget is not None or all(name == "plain" for name, _ in scores)
        assert reason.startswith(("no method fits", "there are no results"))
    else:
        assert candidates
        assert "plain" not in {candidate.name for candidate in candidates}
        assert all(candidate.evidence for candidate in candidates)
        assert all(budget is None or (candidate.time or 9) <= budget for candidate in candidates)


def test_the_order_of_the_entries_does_not_matter() -> None:
    entries = board()
    assert recommend(entries[::-1]).candidates == recommend(entries).candidates
