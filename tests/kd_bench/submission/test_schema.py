"""The JSON Schema of the leaderboards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile.valid import COMMITTED, challenged_entry, own_entry, verified_entry
from jsonschema import Draft202012Validator, ValidationError
from kd_bench.submission.schema import SCHEMA, leaderboard_schema, main, schema_text


def of(name: str | None = None) -> Draft202012Validator:
    """The validator of a kind of file; of run sets by default."""
    schema = leaderboard_schema()
    if name is not None:
        schema = {**schema, "$ref": f"#/$defs/{name}"}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_committed_schema_is_that_of_the_models(tmp_path: Path) -> None:
    assert main([str(tmp_path / SCHEMA)]) == 0
    remedy = f"write it anew: python -m kd_bench.submission.schema leaderboards/{SCHEMA}"
    assert (COMMITTED / SCHEMA).read_bytes() == (tmp_path / SCHEMA).read_bytes(), remedy


def test_it_is_ascii_and_names_its_dialect() -> None:
    assert schema_text().isascii()
    assert json.loads(schema_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_file_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_every_committed_run_set_is_valid() -> None:
    validator = of()
    files = list((COMMITTED / "results").rglob("run_set.json"))
    assert len(files) > 80
    for path in files:
        validator.validate(json.loads(path.read_text()))


def test_the_other_files_are_valid(tmp_path: Path) -> None:
    verification = verified_entry(tmp_path / "a") / "verification.json"
    correction = challenged_entry(tmp_path / "b").parents[3] / "corrections" / "2026-01-01-kd.json"
    of("VerificationLog").validate(json.loads(verification.read_text()))
    of("Correction").validate(json.loads(correction.read_text()))
    of("TeacherRegistry").validate(json.loads((COMMITTED / "teachers.json").read_text()))
    of().validate(json.loads((own_entry(tmp_path / "c") / "run_set.json").read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 1},
        {"mean": 0.97},
        {"schema_version": 2},
        {"verification": "blessed"},
        {"track": "best"},
        {"runs": []},
        {"extra_data": "no"},
    ],
)
def test_it_refuses_what_the_model_refuses(change: dict[str, Any]) -> None:
    path = next((COMMITTED / "results").rglob("run_set.json"))
    with pytest.raises(ValidationError):
        of().validate({**json.loads(path.read_text()), **change})
