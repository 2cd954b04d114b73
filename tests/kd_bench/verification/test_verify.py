"""The levels in order, and the record of what held."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from committed_entries import copy_entry
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.results import ProtocolRef
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import file_sha256
from kd_bench.submission.check import check
from kd_bench.verification import author
from kd_bench.verification import verify as module
from kd_bench.verification.record import VERIFICATION_FILE, read_verifications
from kd_bench.verification.verify import find_entry, verify
from tiny_benchmark import tiny_protocol
from verifiable_entries import PAIR, change, change_run, forge, know_the_protocol, raised, scores_of

COMMITTED = Path(__file__).parents[3] / "leaderboards"
ENTRY = f"digits-tiny/KD/{PAIR}"


@pytest.fixture
def kd(results: Path) -> Path:
    return results / "KD" / PAIR


@pytest.fixture
def leaderboards(results: Path) -> Path:
    return results.parents[1]


def test_what_holds_is_recorded_and_the_badge_rises(kd: Path, leaderboards: Path, trained: Path) -> None:
    first = verify(kd, by="Jane Doe")
    assert (first.ok, first.exit_code, first.level, first.badge) == (True, 0, "predictions", "predictions checked")
    assert first.written == kd / VERIFICATION_FILE
    second = verify(ENTRY, level="checkpoint", leaderboards=leaderboards, weights=trained, by="Jane Doe")
    assert (second.entry.badge, second.badge) == ("predictions checked", "checkpoint re-evaluated")
    assert read_verifications(kd) == (first.record, second.record)
    (entry,) = load_entries(kd)
    assert entry.badge == "checkpoint re-evaluated"
    for record in entry.verifications:
        assert record.by == "Jane Doe"
        assert record.run_set_sha256 == file_sha256(kd / RUN_SET_FILE)
        assert [each.seed for each in record.seeds] == [0, 1]
        assert all(each.claimed == each.found == scores_of(kd, each.seed).accuracy for each in record.seeds)


def test_a_retraining_is_recorded(kd: Path, tmp_path: Path) -> None:
    outcome = verify(kd, level="retrain", output=tmp_path / "output", seeds=[1], by="Jane Doe")
    assert outcome.badge == "retrained"
    (record,) = read_verifications(kd)
    assert (record.level, [each.seed for each in record.seeds]) == ("retrained", [1])
    assert record.mean_tolerance is not None
    assert 0 < record.mean_tolerance <= record.tolerance
    assert "the predictions of seed 1 are the same to the bit" in record.remarks


def test_a_dry_run_records_nothing(kd: Path) -> None:
    outcome = verify(kd, dry_run=True)
    assert outcome.ok
    assert outcome.record is not None
    assert outcome.written is None
    assert outcome.badge == "predictions checked"
    assert not (kd / VERIFICATION_FILE).exists()


def test_what_does_not_hold_is_not_recorded(kd: Path) -> None:
    change_run(kd, 0, last=scores_of(kd, 0).model_copy(update={"ece": 0.0}))
    outcome = verify(kd, by="Jane Doe")
    assert (outcome.ok, outcome.exit_code, outcome.record, outcome.badge) == (False, 1, None, "claimed")
    assert not (kd / VERIFICATION_FILE).exists()


@pytest.mark.parametrize("level", ["checkpoint", "retrain"])
def test_higher_levels_begin_with_the_predictions(level: module.Level, kd: Path, trained: Path, tmp_path: Path) -> None:
    change_run(kd, 0, last=scores_of(kd, 0).model_copy(update={"ece": 0.0}))
    outcome = verify(kd, level=level, weights=trained, output=tmp_path / "output", by="Jane Doe")
    assert (outcome.ok, outcome.level) == (False, "predictions")
    assert not (tmp_path / "output").exists()


def test_a_consistent_forgery_passes_one_level_and_no_more(kd: Path, trained: Path, tmp_path: Path) -> None:
    forge(kd, raised)
    assert verify(kd, dry_run=True).ok
    for level in ("checkpoint", "retrain"):
        outcome = verify(kd, level=level, weights=trained, output=tmp_path / "output", by="Jane Doe")
        assert (outcome.ok, outcome.level) == (False, level)
    assert not (kd / VERIFICATION_FILE).exists()


def test_another_recipe_is_not_verified(kd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know_the_protocol(monkeypatch, tiny_protocol(epochs=3))
    with pytest.raises(UserError, match="under another recipe of digits-tiny"):
        verify(kd, dry_run=True)
    know_the_protocol(monkeypatch)
    change(kd, protocol=ProtocolRef(id="digits-tiny", hash="0" * 64))
    with pytest.raises(UserError, match="under another recipe of digits-tiny"):
        verify(kd, dry_run=True)


def test_a_file_that_changes_meanwhile_is_not_recorded(kd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = module.verify_predictions

    def slow(*arguments: object) -> object:
        found = honest(*arguments)  # type: ignore[arg-type]
        change(kd, contact="somebody else")
        return found

    monkeypatch.setattr(module, "verify_predictions", slow)
    with pytest.raises(UserError, match="was changed meanwhile"):
        verify(kd, by="Jane Doe")
    assert not (kd / VERIFICATION_FILE).exists()


def test_who_verifies_is_asked_first(kd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author, "_git_name", lambda: "")
    monkeypatch.setattr(module, "verify_predictions", lambda entry: pytest.fail("too early"))
    with pytest.raises(UserError, match="who verifies"):
        verify(kd)


def test_records_pass_the_check(tmp_path: Path) -> None:
    leaderboards = tmp_path / "leaderboards"
    folder = leaderboards / "results" / "digits-v1" / "KD" / PAIR
    copy_entry(COMMITTED / "results" / "digits-v1" / "KD" / PAIR, folder)
    shutil.copy(COMMITTED / "teachers.json", leaderboards)
    assert verify(folder, by="Jane Doe").ok
    assert len(read_verifications(folder)) == 1
    report = check([folder], leaderboards=leaderboards)
    assert report.problems == ()
    assert report.entries == (str(folder),)


@pytest.mark.parametrize("given", [ENTRY, f"results/{ENTRY}", f"{ENTRY}/{RUN_SET_FILE}"])
def test_an_entry_is_found_by_its_path(given: str, leaderboards: Path) -> None:
    assert find_entry(given, leaderboards).path == ENTRY
    assert find_entry(leaderboards / "results" / ENTRY, Path("nowhere")).path == ENTRY


@pytest.mark.parametrize("given", ["digits-tiny/KD", "nothing", ""])
def test_what_is_no_entry(given: str, leaderboards: Path) -> None:
    with pytest.raises(UserError, match="there is no entry"):
        find_entry(given, leaderboards)


def test_a_folder_inside_an_entry_is_not_looked_into(kd: Path) -> None:
    (kd / "more").mkdir()
    (kd / "more" / RUN_SET_FILE).symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a folder, where only the files of an entry may be"):
        verify(kd, dry_run=True)
