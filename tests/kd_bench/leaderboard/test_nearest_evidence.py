from __future__ import annotations

import re

import pytest
from kd_bench.errors import UserError
from kd_bench.leaderboard.nearest_evidence import nearest_evidence
from small_boards import entry

ENTRIES = [
    entry(name, [0.9, 0.91], protocol=protocol, student=student)
    for protocol, student in (("digits-v1", "mini_cnn4"), ("fashion-v1", "mini_cnn4"), ("fashion-v1", "fashion_cnn5"))
    for name in ("plain", "KD")
]


@pytest.mark.parametrize(
    ("student", "protocol", "level", "count", "said"),
    [
        ("mini_cnn4", "digits-v1", "same student and protocol", 2, "mini_cnn4 under digits-v1"),
        ("mini_cnn4", None, "same student", 4, "mini_cnn4 under any protocol"),
        ("mini_cnn4", "imagenet-v1", "same student", 4, "not measured under imagenet-v1"),
        ("mini_cnn5", "digits-v1", "same protocol", 2, r"none of the student mini_cnn5 \(did you mean mini_cnn4"),
        ("fashion_cnn5", "digits-v1", "same student", 2, "not measured under digits-v1"),
        ("nobody", "imagenet-v1", "all boards", 6, "none of the student nobody.* or of imagenet-v1"),
        (None, None, "all boards", 6, "results of all boards$"),
    ],
)
def test_the_nearest_results_are_taken_and_it_says_so(
    student: str | None, protocol: str | None, level: str, count: int, said: str
) -> None:
    found = nearest_evidence(ENTRIES, student=student, protocol=protocol)
    assert found.level == level
    assert len(found.entries) == count
    assert re.search(said, found.sentence)


def test_a_board_with_the_plain_student_alone_is_no_evidence() -> None:
    entries = [*ENTRIES, entry("plain", [0.9], protocol="cifar100-v1", student="resnet8")]
    assert nearest_evidence(entries, student="resnet8", protocol=None).level == "all boards"


def test_unknown_protocols_and_empty_boards_are_errors() -> None:
    with pytest.raises(UserError, match=r"unknown protocol 'digts-v1'.*Did you mean 'digits-v1'"):
        nearest_evidence(ENTRIES, student=None, protocol="digts-v1")
    with pytest.raises(UserError, match="no results of any method"):
        nearest_evidence([], student=None, protocol=None)
