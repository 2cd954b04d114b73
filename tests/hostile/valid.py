"""Valid submissions, made from committed entries, for a test to check or to spoil."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from committed_entries import copy_entry

from hostile.edits import edit

COMMITTED = Path(__file__).parents[2] / "leaderboards"
PAIR = "mini_cnn4__mini_resnet14"
DETECTORS = "small_fcos_8__small_fcos_24"

METHOD = '''"""A method of one file."""

from lightning_kd import DistillationMethod


class MyMethod(DistillationMethod):
    """Nothing."""

    def forward(self, exchange):
        return exchange.student.logits.sum() * 0
'''


def committed_entry(root: Path, method: str = "KD", protocol: str = "digits-v1", pair: str = PAIR) -> Path:
    """Leaderboards with one of the committed entries and the plain student; returns the entry's folder."""
    leaderboards = root / "leaderboards"
    for name in dict.fromkeys(("plain", method)):
        copy_entry(COMMITTED / "results" / protocol / name / pair, leaderboards / "results" / protocol / name / pair)
    shutil.copy(COMMITTED / "teachers.json", leaderboards)
    return leaderboards / "results" / protocol / method / pair


def detector_entry(root: Path) -> Path:
    """The same of detectors, without the plain student: to score detections takes a second."""
    entry = committed_entry(root, "CWD", "digits-detection-v1", DETECTORS)
    shutil.rmtree(entry.parents[1] / "plain")
    return entry


def own_entry(root: Path) -> Path:
    """The same of a method of one file."""
    before = committed_entry(root, "DKD")
    entry = before.parents[1] / "MyMethod" / PAIR
    entry.parent.mkdir()
    before.rename(entry)
    before.parent.rmdir()
    (entry / "method.py").write_text(METHOD)
    described = {
        "name": "MyMethod",
        "class_path": "my_method.MyMethod",
        "source_sha256": hashlib.sha256(METHOD.encode()).hexdigest(),
        "parameters": {},
        "citation": None,
    }
    edit(entry, lambda run_set: run_set["method"].update(described))
    return entry


def challenged_entry(root: Path) -> Path:
    """The same as :func:`committed_entry`, with a challenge of it."""
    entry = committed_entry(root)
    corrections = entry.parents[3] / "corrections"
    corrections.mkdir()
    challenge = {
        "id": "2026-01-01-kd",
        "date": "2026-01-01",
        "entry": f"digits-v1/KD/{PAIR}",
        "kind": "challenge",
        "reason": "The numbers look too good.",
        "by": "a reader",
        "evidence": "https://example.org/issue/1",
    }
    (corrections / "2026-01-01-kd.json").write_text(json.dumps(challenge))
    return entry


def verified_entry(root: Path) -> Path:
    """The same as :func:`committed_entry`, with a record of a verification."""
    entry = committed_entry(root)
    content = (entry / "run_set.json").read_bytes()
    run_set = json.loads(content)
    record = {
        "level": "predictions checked",
        "date": "2026-01-01",
        "by": "a maintainer",
        "run_set_sha256": hashlib.sha256(content).hexdigest(),
        "seeds": [
            {"seed": run["seed"], "claimed": run["last"]["accuracy"], "found": run["last"]["accuracy"]}
            for run in run_set["runs"]
        ],
        "tolerance": 0.0,
        "environment": run_set["environment"],
        "package_version": "0.1.0",
    }
    (entry / "verification.json").write_text(json.dumps({"schema_version": 1, "records": [record]}))
    return entry


VALID = (committed_entry, detector_entry, own_entry, challenged_entry, verified_entry)
