"""`lightning-kd leaderboard verify`."""

from __future__ import annotations

from pathlib import Path

import pytest
from kd_bench.verification.record import VERIFICATION_FILE, read_verifications
from verifiable_entries import (
    OWN,
    PAIR,
    change_run,
    forge,
    know_the_protocol,
    publish,
    raised,
    scores_of,
    train_entries,
)

from lightning_kd.cli.main import main

ENTRY = f"digits-tiny/KD/{PAIR}"
COMMITTED = Path(__file__).parents[2] / "leaderboards"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_entries(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def kd(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """KD's entry in leaderboards in the working directory."""
    know_the_protocol(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return publish(trained, tmp_path / "leaderboards") / "KD" / PAIR


def verify(*arguments: object) -> int:
    return main(["leaderboard", "verify", *map(str, arguments)])


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    return text


def test_predictions_by_default(kd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(ENTRY, "--by", "Jane Doe") == 0
    text = printed(capsys)
    assert f"{ENTRY}: recomputed from the predictions" in text
    claimed = f"{100 * scores_of(kd, 1).accuracy:.2f}"
    assert [line for line in text.splitlines() if line.count(claimed) == 2 and " 1 " in line]
    assert "It holds: the badge rises from 'claimed' to 'predictions checked'." in text
    (record,) = read_verifications(kd)
    assert record.by == "Jane Doe"
    assert verify(ENTRY, "--by", "Jane Doe") == 0
    assert "It holds: the badge stays 'predictions checked'." in printed(capsys)


def test_a_dry_run_of_a_folder(kd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(kd, "--dry-run") == 0
    assert "Nothing was recorded; its badge would be 'predictions checked'" in printed(capsys)
    assert not (kd / VERIFICATION_FILE).exists()


def test_what_does_not_hold(kd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_run(kd, 0, last=scores_of(kd, 0).model_copy(update={"nll": 0.0}))
    assert verify(ENTRY, "--by", "Jane Doe") == 1
    text = printed(capsys)
    assert "seed 0: nll is stated as 0.0" in text
    assert "It does not hold. Nothing was recorded." in text
    assert f"lightning-kd leaderboard correct {ENTRY}" in text
    assert not (kd / VERIFICATION_FILE).exists()


def test_weights(kd: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(ENTRY, "--level", "checkpoint", "--weights", trained, "--seeds", "1", "--dry-run") == 0
    text = printed(capsys)
    assert "weights evaluated anew" in text
    assert "same class %" in text
    assert "100.00" in text
    assert "Accepted: 0.10 points, and the same class on 99.5 % of the test set." in text


def test_what_could_not_be_measured(kd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights" / "seed-0.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"no weights")
    change_run(kd, 0, weights_sha256=None)
    arguments = (ENTRY, "--level", "checkpoint", "--weights", weights.parent, "--seeds", "0", "--by", "Jane Doe")
    assert verify(*arguments) == 2
    text = printed(capsys)
    assert "Not measured: seed 0: " in text
    assert "It could not be verified. Nothing was recorded." in text
    assert "challenge" not in text
    assert not (kd / VERIFICATION_FILE).exists()


def test_training_again(kd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (ENTRY, "--level", "retrain", "--output", tmp_path / "again", "--dry-run")
    assert verify(*arguments) == 0
    text = printed(capsys)
    assert "trained again" in text
    assert "points of the mean" in text
    assert "the predictions of seeds 0, 1 are the same to the bit" in text
    forge(kd, raised)
    assert verify(*arguments) == 1
    text = printed(capsys)
    assert "lower than claimed" in text
    assert "-15." in text


def test_submitted_code_is_not_run_unasked(kd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = f"digits-tiny/{OWN}/{PAIR}"
    arguments = (entry, "--level", "retrain", "--output", tmp_path / "again", "--seeds", "0", "--by", "Jane Doe")
    assert verify(*arguments) == 2
    assert "give --run-submitted-code" in capsys.readouterr().err
    assert verify(*arguments, "--run-submitted-code") == 0
    assert "to 'retrained'" in printed(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "--dry-run"), "there is no entry 'nothing'"),
        ((ENTRY, "--level", "checkpoint", "--dry-run"), "--weights DIR"),
        ((ENTRY, "--level", "checkpoint", "--weights", "nowhere", "--dry-run"), "there is no folder nowhere"),
        ((ENTRY, "--level", "retrain", "--seeds", "5", "--dry-run"), "no run of the seed 5"),
        ((ENTRY, "--by", ""), "who verifies"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, kd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not (kd / VERIFICATION_FILE).exists()


def test_an_unknown_level(kd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(ENTRY, "--level", "faith") == 2
    assert "--level" in capsys.readouterr().err


@pytest.mark.slow
def test_a_committed_entry_is_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = COMMITTED / "results" / "digits-v1" / "KD" / PAIR
    before = read_verifications(entry)
    assert verify(entry, "--level", "retrain", "--seeds", "0", "--output", tmp_path, "--dry-run") == 0
    assert "its badge would be 'retrained'" in capsys.readouterr().out
    assert read_verifications(entry) == before
