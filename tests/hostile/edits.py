"""Ways to change the files of a submission, with or without the hashes that belong to them."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def edit(entry: Path, change: Callable[[dict[str, Any]], object], name: str = "run_set.json") -> None:
    """Change a JSON file."""
    content = json.loads((entry / name).read_text())
    change(content)
    (entry / name).write_text(json.dumps(content, indent=1) + "\n")


def replace(entry: Path, before: str, after: str) -> None:
    """Change the text of the run set."""
    text = (entry / "run_set.json").read_text()
    assert before in text
    (entry / "run_set.json").write_text(text.replace(before, after, 1))


def put_predictions(entry: Path, content: bytes, seed: int = 0) -> None:
    """Replace the predictions of a seed, with the hash in the run set."""
    (entry / f"seed-{seed}.npz").write_bytes(content)

    def change(run_set: dict[str, Any]) -> None:
        run_set["runs"][seed]["predictions_sha256"] = hashlib.sha256(content).hexdigest()

    edit(entry, change)


def put_arrays(entry: Path, change: Callable[[dict[str, Any]], object], seed: int = 0) -> None:
    """Change the arrays of a seed, with the hash in the run set."""
    with np.load(entry / f"seed-{seed}.npz") as stored:
        arrays = {name: stored[name].copy() for name in stored.files}
    change(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    put_predictions(entry, buffer.getvalue(), seed)


def put_members(entry: Path, change: Callable[[list[tuple[str, bytes]]], object], **options: Any) -> None:
    """Change the members of the archive of seed 0, with the hash in the run set."""
    with zipfile.ZipFile(entry / "seed-0.npz") as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    change(members)
    buffer = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),  # a name twice is what a case may be about
        zipfile.ZipFile(buffer, "w", **{"compression": zipfile.ZIP_DEFLATED, **options}) as archive,
    ):
        for name, content in members:
            archive.writestr(name, content)
    put_predictions(entry, buffer.getvalue())


def put_method(entry: Path, content: bytes) -> None:
    """Replace the method's file, with its hash in the run set."""
    (entry / "method.py").write_bytes(content)
    edit(entry, lambda run_set: run_set["method"].update(source_sha256=hashlib.sha256(content).hexdigest()))


def rename(entry: Path, method: str, folder: str | None = None, **others: Any) -> None:
    """Give the method of an entry another name, and the folder, too."""
    edit(entry, lambda run_set: run_set["method"].update(name=method, **others))
    target = entry.parents[1] / (folder or method)
    entry.parent.rename(target)
