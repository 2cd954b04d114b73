from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.fusion import create_strategy
from kd_bench.protocol import MethodRow, load_protocol
from kd_bench.rows import create_method, describe_method

from lightning_kd.callbacks import Fixed, TrilateralGeometry
from lightning_kd.methods import KD


def _row(class_path: str, **parameters: object) -> MethodRow:
    return MethodRow.model_validate({"class": class_path, "parameters": parameters})


def _taught(teacher: str, class_path: str, **parameters: object) -> MethodRow:
    return MethodRow.model_validate({"class": class_path, "parameters": parameters, "teacher": teacher})


def _fused(strategy: str, hold_out: float = 0.0, **parameters: object) -> MethodRow:
    fusion = {"class": strategy, "parameters": parameters, "hold_out": hold_out}
    return MethodRow.model_validate({"class": "KD", "fusion": fusion})


def test_every_row_of_the_protocol_can_be_created_and_described() -> None:
    for name, row in load_protocol("digits-v1").methods.items():
        method = create_method(row)
        assert (method is None) == (name == "plain")
        assert describe_method(name, row).name == name


def test_a_description_records_defaults_source_and_citation() -> None:
    found = describe_method("Soft", _row("KD", weight=0.5))
    assert found.parameters == {"temperature": 4.0, "weight": 0.5}
    assert found.class_path == "lightning_kd.methods.logits.kd.KD"
    assert found.source_sha256 == hashlib.sha256(Path(inspect.getfile(KD)).read_bytes()).hexdigest()
    assert found.citation is not None
    assert found.citation.arxiv == "1503.02531"


def test_a_description_tells_who_teaches() -> None:
    assert describe_method("KD", _row("KD")).teacher == "trained"
    assert describe_method("DML", _taught("student", "DML")).teacher == "student"
    assert describe_method("PSKD", _row("PSKD")).teacher == "none"
    assert describe_method("plain", MethodRow()).teacher == "none"


def test_a_description_tells_the_fusion_with_its_defaults() -> None:
    assert describe_method("KD", _row("KD")).fusion is None
    found = describe_method("TGeo-KD", _fused("TrilateralGeometry", 0.1, every=2)).fusion
    assert found is not None
    assert found.class_path == "lightning_kd.callbacks.fusion.trilateral_geometry.TrilateralGeometry"
    assert (found.hold_out, found.parameters["every"], found.parameters["lr"]) == (0.1, 2, 0.1)
    assert "validation" not in found.parameters
    assert found.source_sha256 == hashlib.sha256(Path(inspect.getfile(TrilateralGeometry)).read_bytes()).hexdigest()


def test_a_strategy_by_name_or_path() -> None:
    for path in ("Fixed", "lightning_kd.callbacks.fusion.fixed.Fixed"):
        spec = _fused(path, ratio=0.25).fusion
        assert spec is not None
        strategy = create_strategy(spec)
        assert isinstance(strategy, Fixed)
        assert strategy.ratio == 0.25


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_fused("Fixxed"), "Did you mean 'Fixed'"),
        (_fused("FusionStrategy"), "unknown fusion strategy"),
        (_fused("pathlib.Path"), "not a fusion strategy"),
        (_fused("Fixed", ratio=2.0), "does not take the parameters"),
        (_fused("Fixed", 0.1), "leave hold_out out"),
        (_fused("TrilateralGeometry"), "give the fusion a hold_out"),
    ],
)
def test_fusions_that_make_no_sense_are_refused(row: MethodRow, message: str) -> None:
    assert row.fusion is not None
    with pytest.raises(UserError, match=message):
        create_strategy(row.fusion)


def test_a_dotted_path_names_the_same_class() -> None:
    assert isinstance(create_method(_row("lightning_kd.methods.logits.kd.KD")), KD)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_row("DKKD"), "Did you mean 'DKD'"),
        (_row("lightning_kd.methods.logits.kd.KDD"), "cannot import the method"),
        (_row("pathlib.Path"), "not a distillation method"),
        (_row("KD", temprature=4.0), "does not take the parameters"),
        (_row("KD", temperature=-1.0), "temperature must be positive"),
        (_taught("scratch", "KD"), "'scratch' has learnt nothing"),
        (_taught("student", "BDKD", teacher_mode="frozen"), "'student' has learnt nothing"),
        (_taught("previous", "PSKD"), "needs no teacher"),
        (_row("GuidedSelfDistillation", alpha="auto"), "learns from a teacher 'previous'"),
        (_taught("previous", "GuidedSelfDistillation", alpha="auto", weight=2.0), "without a fusion and a weight"),
    ],
)
def test_rows_that_make_no_sense_are_refused(row: MethodRow, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_method(row)
