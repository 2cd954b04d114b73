"""Rows that run what an entry states, or the reason why they cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from kd_bench.entries import load_entries
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import FusionInfo
from kd_bench.rows import describe_method
from kd_bench.run_set_files import METHOD_FILE
from kd_bench.storage import file_sha256
from kd_bench.verification.recorded_method import Rerun, with_recorded_method
from tiny_benchmark import tiny_protocol
from verifiable_entries import OWN, PAIR, change_method

COMMITTED = Path(__file__).parents[3] / "leaderboards" / "results"
NAME = "resnet14-cnn4"


def rerun(folder: Path, *, run_submitted: bool = False, protocol: Protocol | None = None) -> Rerun:
    (entry,) = load_entries(folder)
    output = folder.parents[4] / "output"
    return with_recorded_method(entry, protocol or tiny_protocol(), NAME, output, run_submitted=run_submitted)


@pytest.fixture
def kd(results: Path) -> Path:
    return results / "KD" / PAIR


@pytest.fixture
def own(results: Path) -> Path:
    return results / OWN / PAIR


@pytest.mark.parametrize("method", ["plain", "KD"])
def test_what_is_as_in_the_table_is_run_by_the_table(method: str, results: Path) -> None:
    found = rerun(results / method / PAIR)
    assert found.remarks == ()
    assert found.protocol.methods == tiny_protocol().methods
    assert found.protocol.hash == tiny_protocol().hash


def test_recorded_parameters_count_where_the_table_differs(kd: Path) -> None:
    (entry,) = load_entries(kd)
    parameters = {**entry.run_set.method.parameters, "temperature": 7.0}
    change_method(kd, parameters=parameters, task_weight=0.25, warmup=3)
    row = rerun(kd).protocol.methods["KD"]
    described = describe_method("KD", row)
    assert (described.parameters, described.task_weight, described.warmup) == (parameters, 0.25, 3)


def test_a_method_that_the_table_does_not_have(kd: Path) -> None:
    protocol = tiny_protocol(methods=["plain"])
    found = rerun(kd, protocol=protocol)
    assert found.protocol.methods["KD"].class_path == "lightning_kd.methods.logits.kd.KD"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"parameters": {"nonsense": 1}}, "KD does not take the parameters"),
        ({"parameters": {"temperature": 4.0}}, "cannot be run as it is recorded: parameters"),
        (
            {"class_path": "lightning_kd.methods.logits.kd.Missing"},
            "has no method lightning_kd.methods.logits.kd.Missing",
        ),
        ({"class_path": "lightning_kd.cli.main.main"}, "has no method lightning_kd.cli.main.main"),
        ({"teacher": "none"}, "teacher is recorded as 'none', it would be 'trained'"),
        ({"warmup": 1, "warmup_steps": 1}, "cannot be run as it is recorded"),
        ({"class_path": None, "parameters": {}, "source_sha256": None}, "has no class"),
    ],
)
def test_what_cannot_be_passed_is_refused(update: dict[str, Any], message: str, kd: Path) -> None:
    change_method(kd, **update)
    with pytest.raises(UserError, match=message):
        rerun(kd)


def test_no_other_module_is_imported(kd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "payload.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    fusion = FusionInfo(class_path="payload.Payload", parameters={}, hold_out=0.0, source_sha256="0" * 64)
    change_method(kd, fusion=fusion)
    with pytest.raises(UserError, match=r"the fusion payload\.Payload does not come with lightning_kd"):
        rerun(kd)
    change_method(kd, fusion=None, class_path="payload.Payload")
    with pytest.raises(UserError, match=r"cannot be read.*brings its file"):
        rerun(kd, run_submitted=True)
    assert "payload" not in sys.modules


def test_a_changed_library_is_remarked(kd: Path) -> None:
    change_method(kd, source_sha256="0" * 64)
    (remark,) = rerun(kd).remarks
    assert "has changed since the entry was made" in remark


def test_submitted_code_runs_only_if_that_is_asked_for(own: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    file = own / METHOD_FILE
    file.write_text(f"open({str(marker)!r}, 'w').close()\n{file.read_text()}")
    change_method(own, source_sha256=file_sha256(file))
    with pytest.raises(UserError, match=r"executes the submitted code in .*--run-submitted-code"):
        rerun(own)
    assert not marker.exists()
    row = rerun(own, run_submitted=True).protocol.methods[OWN]
    assert marker.exists()
    described = describe_method(OWN, row)
    assert (described.parameters["scale"], described.task_weight) == (2.0, 0.5)
    assert described.source_sha256 == file_sha256(file)
    # neither the entry nor its file is touched
    assert {path.name for path in own.iterdir()} == {"run_set.json", "seed-0.npz", "seed-1.npz", METHOD_FILE}


@pytest.mark.parametrize(
    ("text", "stated", "message"),
    [
        ("# other\n", False, "is another file than the one that was run"),
        ("# other\n", True, "does not define the class 'LogitMatching'"),
        ("\x00", True, "holds null bytes"),
        ("def broken(:", True, "is not Python"),
        (None, False, "cannot be read.*brings its file"),
    ],
)
def test_another_file_is_not_run(text: str | None, stated: bool, message: str, own: Path) -> None:
    file = own / METHOD_FILE
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    if stated:
        change_method(own, source_sha256=file_sha256(file))
    with pytest.raises(UserError, match=message):
        rerun(own, run_submitted=True)


def test_a_link_is_not_followed(own: Path, tmp_path: Path) -> None:
    file = own / METHOD_FILE
    file.rename(tmp_path / "elsewhere.py")
    file.symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(UserError, match="cannot be read"):
        rerun(own, run_submitted=True)


def test_every_committed_entry_can_be_run_from_its_record(tmp_path: Path) -> None:
    protocol = load_protocol("digits-v1")
    without = protocol.model_copy(update={"methods": {"plain": protocol.methods["plain"]}})
    entries = load_entries(COMMITTED / "digits-v1")
    assert len(entries) > 40
    refused = []
    for entry in entries:
        name = entry.run_set.method.name
        found = with_recorded_method(entry, protocol, NAME, tmp_path, run_submitted=False)
        assert found.protocol.methods == protocol.methods
        try:
            with_recorded_method(entry, without, NAME, tmp_path, run_submitted=False)
        except UserError as error:
            refused.append((name, "without a fusion and a weight" in str(error)))
    # its weight is a default that is recorded, and cannot be given
    assert refused == [("GuidedSelfDistillation", True)]
