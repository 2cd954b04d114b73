"""From the method that an entry states to a protocol with a row that runs exactly that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.results import PLAIN, FusionInfo, MethodInfo
from kd_bench.rows import describe_method
from kd_bench.run_set_files import METHOD_FILE
from kd_bench.storage import write_atomic
from kd_bench.submission.folder import MAX_METHOD, read_file
from kd_bench.submission.problem import RefusedError
from kd_bench.submission.sources import OURS, check_method_file, library_methods

_FUSIONS = "lightning_kd.callbacks."
_SUBMITTED = "submitted"
"""Folder of submitted files, below the output; they are run from there."""


@dataclass(frozen=True)
class Rerun:
    """A protocol that has the entry's method as a row.

    Attributes:
        protocol: with the row.
        remarks: what is different from when the entry was made.
    """

    protocol: Protocol
    remarks: tuple[str, ...]


def comes_with_us(method: MethodInfo) -> bool:
    """Whether a method is part of lightning_kd, so that no submitted code is run."""
    return method.class_path is None or method.class_path.startswith(OURS)


def with_recorded_method(entry: Entry, protocol: Protocol, pair: str, output: Path, *, run_submitted: bool) -> Rerun:
    """A protocol that runs the method of an entry with what is recorded of it.

    Args:
        entry: with a folder.
        protocol: the entry's.
        pair: the protocol's name of the entry's pair.
        output: where the submitted file is copied to, to be run from there.
        run_submitted: whether submitted code may be executed.

    Raises:
        UserError: if it may not, the file is not the one that is stated, or what is recorded does not lead to the
            same method again.
    """
    method = entry.run_set.method
    if (method.name == PLAIN) != (method.class_path is None):
        raise UserError(f"the row {PLAIN!r}, and only it, has no class; {method.name!r} has {method.class_path}.")
    if method.class_path is not None and comes_with_us(method) and method.class_path not in library_methods():
        raise UserError(f"this lightning_kd has no method {method.class_path}.")
    if method.fusion is not None and not method.fusion.class_path.startswith(_FUSIONS):
        raise UserError(f"the fusion {method.fusion.class_path} does not come with lightning_kd; it is not run.")
    if not comes_with_us(method):
        reference = _submitted_file(entry, output, run_submitted=run_submitted)
        rows = [_recorded(method, reference)]
    else:
        # the protocol's row, if it still is what is recorded; else what is recorded
        table = protocol.methods.get(method.name)
        rows = [*([] if table is None else [table.on(pair)]), _recorded(method, method.class_path)]
    differences: list[str] = []
    for row in rows:
        described = describe_method(method.name, row)
        differences = list(_differences(method, described))
        if not differences:
            # the pair's own hyper-parameters are in the row
            row = row.model_copy(update={"pairs": {}, "only_on": ()})
            with_row = protocol.model_copy(update={"methods": {**protocol.methods, method.name: row}, "core": ()})
            return Rerun(with_row, tuple(_remarks(method, described)))
    raise UserError(
        f"{method.name} cannot be run as it is recorded: {'; '.join(differences)}. Such an entry can be verified by "
        "its predictions or its weights."
    )


def _submitted_file(entry: Entry, output: Path, *, run_submitted: bool) -> str:
    """Reference to a copy of the entry's method file, whose content is checked and cannot change any more."""
    assert entry.folder is not None
    method = entry.run_set.method
    path = entry.folder / METHOD_FILE
    try:
        content = read_file(path, MAX_METHOD)
    except RefusedError as refusal:
        raise UserError(f"{path} {refusal}; a method that does not come with lightning_kd brings its file.") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != method.source_sha256:
        raise UserError(
            f"{path} is another file than the one that was run: its sha256 is {sha256[:12]}…, stated is "
            f"{str(method.source_sha256)[:12]}…."
        )
    name = str(method.class_path).rpartition(".")[2]
    try:
        check_method_file(content, name)
    except RefusedError as refusal:
        raise UserError(f"{path} {refusal}.") from None
    if not run_submitted:
        raise UserError(
            f"training {method.name} again executes the submitted code in {path}, with your rights on this machine. "
            "Read the file, or use a machine that has nothing to lose, and then give --run-submitted-code."
        )
    copy = output.resolve() / _SUBMITTED / sha256[:16] / METHOD_FILE
    write_atomic(copy, content)
    return f"{copy}:{name}"


def _recorded(method: MethodInfo, class_path: str | None) -> MethodRow:
    if class_path is None:
        return MethodRow()
    row: dict[str, Any] = {"class": class_path, "parameters": method.parameters}
    if method.fusion is None:
        row["task_weight"] = method.task_weight
    else:
        row["fusion"] = _fusion(method.fusion)
    if method.teacher != "none":
        row["teacher"] = method.teacher
    for name in ("warmup", "warmup_steps"):
        if value := getattr(method, name):
            row[name] = value
    try:
        return MethodRow.model_validate(row)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise UserError(f"{method.name} cannot be run as it is recorded: {problems}") from error


def _fusion(fusion: FusionInfo) -> dict[str, Any]:
    return {"class": fusion.class_path, "parameters": fusion.parameters, "hold_out": fusion.hold_out}


def _differences(stated: MethodInfo, found: MethodInfo) -> Iterator[str]:
    if _class(stated) != _class(found):
        yield f"its class is {stated.class_path}, found {found.class_path}"
    for name in sorted(stated.parameters.keys() | found.parameters.keys()):
        missing = "nothing"
        one, other = stated.parameters.get(name, missing), found.parameters.get(name, missing)
        if one != other:
            yield f"parameters.{name} is recorded as {one!r}, it would be {other!r}"
    for name in ("task_weight", "teacher", "warmup", "warmup_steps"):
        if getattr(stated, name) != getattr(found, name):
            yield f"{name} is recorded as {getattr(stated, name)!r}, it would be {getattr(found, name)!r}"
    if _settings(stated.fusion) != _settings(found.fusion):
        yield f"its fusion is recorded as {_settings(stated.fusion)}, it would be {_settings(found.fusion)}"


def _class(method: MethodInfo) -> str | None:
    """The class's path; of a submitted file, whose name may differ, the class alone."""
    return method.class_path if comes_with_us(method) else str(method.class_path).rpartition(".")[2]


def _settings(fusion: FusionInfo | None) -> dict[str, Any] | None:
    return None if fusion is None else _fusion(fusion)


def _remarks(stated: MethodInfo, found: MethodInfo) -> Iterator[str]:
    if stated.source_sha256 != found.source_sha256:
        yield (
            f"the file of {stated.class_path} has changed since the entry was made (sha256 "
            f"{str(found.source_sha256)[:12]}…, was {str(stated.source_sha256)[:12]}…); trained was what is here"
        )
    before, now = (None if each.fusion is None else each.fusion.source_sha256 for each in (stated, found))
    if stated.fusion is not None and before != now:
        yield f"the file of {stated.fusion.class_path} has changed since the entry was made"
