from __future__ import annotations

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.lookup import find_method, narrow
from small_boards import entry

ENTRIES = [
    entry(name, [0.9], protocol=protocol, student=student)
    for protocol, student in (("digits-v1", "mini_cnn4"), ("fashion-v1", "fashion_cnn5"))
    for name in ("plain", "KD", "DKD")
]


def test_a_method_is_found_on_all_boards_in_any_case() -> None:
    assert find_method(ENTRIES, "KD").entries == (ENTRIES[1], ENTRIES[4])
    found = find_method(ENTRIES, "dkd", protocol="fashion-v1")
    assert (found.name, found.entries) == ("DKD", (ENTRIES[5],))


@pytest.mark.parametrize(
    "path",
    [
        "digits-v1/KD/mini_cnn4__mini_resnet14",
        "leaderboards/results/digits-v1/KD/mini_cnn4__mini_resnet14/",
        "./digits-v1/KD/mini_cnn4__mini_resnet14/run_set.json",
    ],
)
def test_an_entry_is_found_by_its_path(path: str) -> None:
    assert find_method(ENTRIES, path).entries == (ENTRIES[1],)


def test_two_spellings_that_fit_are_not_guessed() -> None:
    both = [entry("KD", [0.9]), entry("Kd", [0.9])]
    assert find_method(both, "Kd").entries == (both[1],)
    with pytest.raises(UserError, match="unknown method 'kd'"):
        find_method(both, "kd")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "DKDD"}, "unknown method 'DKDD'.*did you mean 'DKD'"),
        ({"name": "digits-v1/KD/mini_cnn4__mini_resnet15"}, "unknown entry.*did you mean 'digits-v1/KD/mini_cnn4__m"),
        ({"name": "KD", "protocol": "digts-v1"}, "unknown protocol 'digts-v1'.*did you mean 'digits-v1'"),
        ({"name": "KD", "pair": "mini_cnn5"}, "unknown pair 'mini_cnn5'.*did you mean 'mini_cnn4'"),
        ({"name": "KD", "protocol": "fashion-v1", "pair": "mini_cnn4"}, "unknown pair 'mini_cnn4'"),
    ],
)
def test_errors_name_what_is_near(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"(?is){message}"):
        find_method(ENTRIES, **arguments)


def test_narrowing() -> None:
    assert narrow(ENTRIES) == ENTRIES
    assert narrow(ENTRIES, pair="fashion_cnn5") == narrow(ENTRIES, protocol="fashion-v1") == ENTRIES[3:]
    assert narrow(ENTRIES, pair="mini_cnn4__mini_resnet14", student="mini_cnn4") == ENTRIES[:3]
    with pytest.raises(UserError, match="no entries are left"):
        narrow([], protocol="digits-v1")
