from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import pytest
from kd_bench.errors import UserError
from kd_bench.protocol import MethodRow, load_protocol
from kd_bench.rows import create_method, describe_method

from lightning_kd.methods import KD


def _row(class_path: str, **parameters: object) -> MethodRow:
    return MethodRow.model_validate({"class": class_path, "parameters": parameters})


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
    ],
)
def test_rows_that_make_no_sense_are_refused(row: MethodRow, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_method(row)
