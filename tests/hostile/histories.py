"""Verifications, corrections and registries that are forged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.edits import edit
from hostile.table import case
from hostile.valid import (
    PAIR,
    challenged_entry,
    verified_entry,
)


def _first(change: dict[str, Any]) -> Callable[[Path], None]:
    return lambda entry: edit(entry, lambda log: log["records"][0].update(change), "verification.json")


VERIFICATIONS = {
    "of another run set": ("verification", "another run_set", {"run_set_sha256": "0" * 64}),
    "in the future": ("verification", "future", {"date": "2099-01-01"}),
    "on no day": ("verification", "calendar", {"date": "2026-02-31"}),
    "of a level that is none": ("schema", "level", {"level": "blessed"}),
    "with a tolerance of everything": ("schema", "tolerance", {"tolerance": 1.0}),
    "by a terminal sequence": ("text", "U+001B", {"by": "\x1b[8m"}),
    "of one seed": (
        "verification",
        "claims",
        {"seeds": [{"seed": 0, "claimed": 0.999, "found": 0.999}], "level": "retrained"},
    ),
}
for what, (rule, mention, change) in VERIFICATIONS.items():
    case(f"verification {what}", rule, mention, verified_entry)(_first(change))


@case("verification of a later change", "verification", "another run_set", verified_entry)
def _(entry: Path) -> None:
    edit(entry, lambda run_set: run_set.update(contact="somebody else"))


@case("verification leaves seeds out", "verification", "leaves seeds out", verified_entry)
def _(entry: Path) -> None:
    edit(entry, lambda log: log["records"][0].update(seeds=log["records"][0]["seeds"][:1]), "verification.json")


def _challenge(change: dict[str, Any]) -> Callable[[Path], None]:
    return lambda entry: edit(entry.parents[3] / "corrections", lambda one: one.update(change), "2026-01-01-kd.json")


CORRECTIONS = {
    "with a script as evidence": ("schema", "evidence", {"evidence": "javascript:alert(1)"}),
    "with HTML in its link": ("schema", "evidence", {"evidence": 'https://x"><script>'}),
    "with another id": ("correction", "name the file", {"id": "other"}),
    "of no entry": ("correction", "no entry", {"entry": f"digits-v1/Nothing/{PAIR}"}),
    "that leads out": ("schema", "entry", {"entry": "../../etc/passwd"}),
    "in the future": ("correction", "future", {"date": "2099-01-01"}),
    "with a line break": ("text", "U+000A", {"reason": "a\n\n# heading"}),
    "that answers nothing": ("correction", "no challenge", {"kind": "dismissal", "answers": "unknown"}),
    "that leads to another file": (
        "correction",
        "leads to",
        {"kind": "correction", "before_sha256": "0" * 64, "after_sha256": "1" * 64},
    ),
}
for what, (rule, mention, change) in CORRECTIONS.items():
    case(f"correction {what}", rule, mention, challenged_entry)(_challenge(change))


@case("correction is a program", "files", "only files *.json", challenged_entry)
def _(entry: Path) -> None:
    (entry.parents[3] / "corrections" / "run.sh").write_text("touch executed")


@case("registry of teachers is forged", "schema", "score")
def _(entry: Path) -> None:
    registry = entry.parents[3] / "teachers.json"
    registry.write_text(registry.read_text().replace("0.987012987012987", "2.5"))
