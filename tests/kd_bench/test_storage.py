from __future__ import annotations

import os
from pathlib import Path

import pytest
from kd_bench import storage
from kd_bench.errors import UserError
from kd_bench.results import Scores
from kd_bench.storage import read_model, write_atomic, write_model

SCORES = Scores(accuracy=0.9, nll=0.3, ece=0.1, agreement=0.8)


def _fail(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_content_and_no_litter(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, step, _fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_disk_before_the_name_points_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    write_atomic(tmp_path / "made" / "file", b"content")
    assert order == ["fsync", "replace", "fsync"]
    assert (tmp_path / "made" / "file").read_bytes() == b"content"


def test_others_may_read_as_far_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_models_survive_the_round_trip(tmp_path: Path) -> None:
    write_model(tmp_path / "scores.json", SCORES)
    assert read_model(tmp_path / "scores.json", Scores) == SCORES


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Invalid JSON"),
        ('{"accuracy": 0.9, "nll"', "Invalid JSON"),
        ("[1, 2]", "Input should be an object"),
        ('{"accuracy": "0.9", "nll": 0.3, "ece": 0.1, "agreement": 0.8}', "accuracy: Input should be a valid number"),
        ('{"accuracy": 90, "nll": 0.3, "ece": 0.1, "agreement": 0.8}', "accuracy: Input should be less than"),
        ('{"accuracy": 0.9, "nll": NaN, "ece": 0.1, "agreement": 0.8}', "nll"),
        ('{"accuracy": 0.9, "nll": 0.3, "ece": 0.1, "agreement": 0.8, "rank": 1}', "rank: Extra inputs"),
        ("{}", r"\(and 1 more\)"),
    ],
)
def test_a_file_that_is_not_ours_is_named_with_its_problem(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(UserError, match=problem) as caught:
        read_model(path, Scores)
    assert str(path) in str(caught.value)
    assert "remove it" in str(caught.value)


def test_a_missing_or_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_model(tmp_path / "none.json", Scores)
    monkeypatch.setattr(storage, "MAX_JSON_BYTES", 10)
    write_model(tmp_path / "scores.json", SCORES)
    with pytest.raises(UserError, match="too large"):
        read_model(tmp_path / "scores.json", Scores)
