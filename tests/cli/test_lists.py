"""Lists typed on a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.lists import MAX_SEEDS, parse_names, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", [0]), ("0-4", [0, 1, 2, 3, 4]), ("7,0,3", [7, 0, 3]), (" 1 , 3-4", [1, 3, 4]), ("5-5", [5])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_seeds_survive_writing_and_reading(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == seeds


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"),
        ("a", "'a'"),
        ("1,,2", "''"),
        ("-1", "'-1'"),
        ("1.5", "'1.5'"),
        ("3-1", "backwards"),
        ("0-4,2", "twice"),
        ("0-99999999", f"more than {MAX_SEEDS}"),
        ("٣", "'٣'"),
    ],
)
def test_bad_seeds_are_named(text: str, part: str) -> None:
    with pytest.raises(CommandError, match=r"--seeds") as error:
        parse_seeds(text)
    assert part in str(error.value)


def test_names() -> None:
    assert parse_names("--methods", "plain, KD") == ["plain", "KD"]


@pytest.mark.parametrize(("text", "part"), [("", "empty"), ("KD,", "empty"), ("KD,KD", "twice")])
def test_bad_names_are_named(text: str, part: str) -> None:
    with pytest.raises(CommandError, match=part) as error:
        parse_names("--methods", text)
    assert "--methods" in str(error.value)
