"""Texts of submissions: every field that holds one, and what may be in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.edits import edit
from hostile.valid import challenged_entry, committed_entry, own_entry, verified_entry
from kd_bench.corrections import Correction
from kd_bench.results import RunSet
from kd_bench.submission.check import check
from kd_bench.submission.problem import is_invisible, shown
from kd_bench.submission.report import report_lines
from kd_bench.submission.text_fields import text_problems, texts
from kd_bench.verification.record import VerificationLog
from pydantic import BaseModel

INJECTIONS = {
    "HTML": "<script>alert(1)</script>",
    "attribute": "\"'><img src=x onerror=alert(1)>",
    "Markdown": "](javascript:alert(1)) ![x](https://example.org/x.png) @everyone #1",
    "fence": "```\n# heading",
    "terminal": "\x1b]8;;https://example.org\x07\x1b[31m",
    "order to GitHub": "::add-mask::x ##[group]x",
    "reading direction": "\u202egnp.exe",
}
"""Texts that do harm where they are not shown as text."""

FILES = {RunSet: "run_set.json", VerificationLog: "verification.json", Correction: "2026-01-01-kd.json"}


def complete(root: Path) -> dict[str, Path]:
    """The folders of files in which every field is filled in, by the name of the file."""
    entry = challenged_entry(root)
    verified = verified_entry(root / "verified")
    fusion = {
        "class_path": "lightning_kd.callbacks.WeightedSoftLabel",
        "parameters": {"name": "value"},
        "hold_out": 0.0,
        "source_sha256": "0" * 64,
    }

    def fill(run_set: dict[str, Any]) -> None:
        run_set["method"].update(fusion=fusion, licence="Apache-2.0", parameters={"name": "value"})
        run_set.update(contact="somebody")
        run_set["runs"][0].update(
            chosen={"alpha": 0.5}, taps=[["a", "b"]], trainer={"strategy": "ddp"}, weights_sha256="0" * 64
        )

    edit(entry, fill)
    edit(
        verified,
        lambda log: log["records"][0].update(remarks=["nothing"], level="retrained", mean_tolerance=0.0),
        "verification.json",
    )
    corrections = entry.parents[3] / "corrections"
    edit(corrections, lambda one: one.update(answers="2025-01-01-kd", kind="dismissal"), "2026-01-01-kd.json")
    return {"run_set.json": entry, "verification.json": verified, "2026-01-01-kd.json": corrections}


def text_fields(model: type[BaseModel], content: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The place of every text in the JSON of a record, found by walking the record that it describes."""
    record = model.model_validate_json(json.dumps(content))
    seen = set()
    for place, _ in texts(record):
        keys = tuple(int(part) if part.isdigit() else part for part in place.removesuffix(" (a key)").split("."))
        # one of many alike stands for all
        if any(isinstance(key, int) and key > 0 for key in keys) or (place, keys) in seen:
            continue
        seen.add((place, keys))
        yield (*keys, "a key") if place.endswith(" (a key)") else keys


def put(content: Any, place: tuple[Any, ...], text: str) -> None:
    for key in place[:-2] if place[-1] == "a key" else place[:-1]:
        content = content[key]
    if place[-1] == "a key":
        owner = content[place[-2]]
        owner[text] = owner.pop(next(iter(owner)))
    else:
        content[place[-1]] = text


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.__name__)
def test_every_text_field_is_refused_or_shown_harmlessly(model: type[BaseModel], tmp_path: Path) -> None:
    name = FILES[model]
    folder = complete(tmp_path)[name]
    original = (folder / name).read_text()
    fields = list(text_fields(model, json.loads(original)))
    assert len(fields) == len(set(fields)) > 5
    for place in fields:
        for kind, text in INJECTIONS.items():
            content = json.loads(original)
            put(content, place, text)
            (folder / name).write_text(json.dumps(content))
            report = check([folder])
            lines = list(report_lines(report))
            told = f"{place} {kind}: {lines}"
            assert not [line for line in lines if any(map(is_invisible, line)) or "::" in line or "##[" in line], told
            if any(map(is_invisible, text)):
                assert not report.ok, told
    (folder / name).write_text(original)


def test_the_walk_finds_the_texts_of_a_run_set(tmp_path: Path) -> None:
    folder = complete(tmp_path)["run_set.json"]
    fields = set(text_fields(RunSet, json.loads((folder / "run_set.json").read_text())))
    expected = {
        ("protocol", "id"),
        ("method", "name"),
        ("method", "citation", "title"),
        ("method", "fusion", "parameters", "name"),
        ("method", "parameters", "a key"),
        ("contact",),
        ("environment", "cpu"),
        ("runs", 0, "device"),
        ("runs", 0, "taps", 0, 0),
        ("runs", 0, "trainer", "strategy"),
        ("runs", 0, "predictions_file"),
    }
    assert expected <= fields


@pytest.mark.parametrize("text", ["Müller & Søn", "蒸馏", "x < y", "R² ≤ 1, “quoted”", "naïve"])
def test_words_of_all_languages_are_accepted(text: str, tmp_path: Path) -> None:
    entry = committed_entry(tmp_path)
    edit(entry, lambda run_set: run_set.update(contact=text))
    assert check([entry]).ok


@pytest.mark.parametrize("character", ["\u200b", "\u00ad", "\u2066", "\ufeff", "\u3164", "\ufe0f", "\u00a0", "\u2028"])
def test_what_cannot_be_seen_is_escaped_and_refused(character: str, tmp_path: Path) -> None:
    entry = own_entry(tmp_path)
    edit(entry, lambda run_set: run_set.update(contact=f"a{character}b"))
    record = RunSet.model_validate_json((entry / "run_set.json").read_bytes())
    (problem,) = text_problems(record)
    assert f"U+{ord(character):04X}" in problem
    assert character not in problem
    assert shown(character) == character.encode("ascii", "backslashreplace").decode()
