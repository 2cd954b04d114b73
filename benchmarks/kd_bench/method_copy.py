"""Copies of the files of methods of one's own: one to run from, and one beside the results, for a submission."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.layout import METHODS
from kd_bench.method_file import load_method_class
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.run_set_files import METHOD_FILE
from kd_bench.storage import file_sha256, write_atomic
from lightning_kd.methods.load_file import MethodFileError, is_file_reference, split_reference


def run_from_copies(protocol: Protocol, output: Path, names: Iterable[str]) -> Protocol:
    """The protocol with methods that are loaded from copies, so that a file can be edited while a benchmark runs.

    Args:
        protocol: the protocol.
        output: the benchmark's output directory, below which the copies go; the path says what their content is.
        names: the rows that are run.

    Raises:
        UserError: if a file cannot be read.
    """
    rows = dict(protocol.methods)
    for name in names:
        file = own_file(rows[name])
        if file is None:
            continue
        cls = load_method_class(str(rows[name].class_path))
        copy = _write_copy(output, file.name, file.read_bytes())
        rows[name] = rows[name].model_copy(update={"class_path": f"{copy}:{cls.__name__}"})
    return protocol.model_copy(update={"methods": rows})


@dataclass(frozen=True)
class PackedMethod:
    """The file of a method on its way to a machine that does not see it.

    Attributes:
        name: of the file.
        content: of the file.
    """

    name: str
    content: bytes

    @classmethod
    def of(cls, item: Item) -> PackedMethod | None:
        """That of an item, or ``None`` if its method comes with a package."""
        file = own_file(item.row)
        return None if file is None else cls(file.name, file.read_bytes())

    def unpack(self, item: Item) -> Item:
        """The item that runs from a copy in its own output directory."""
        copy = _write_copy(item.output, self.name, self.content)
        row = item.protocol.methods[item.method_name]
        class_path = f"{copy}:{str(row.class_path).rpartition(':')[2]}"
        rows = {**item.protocol.methods, item.method_name: row.model_copy(update={"class_path": class_path})}
        return replace(item, protocol=item.protocol.model_copy(update={"methods": rows}))


def copy_beside_results(item: Item) -> None:
    """Put the file that an item's method comes from beside its run set, unless it comes with a package.

    Args:
        item: any of the run set's.

    Raises:
        UserError: if the file is not the one that was run.
    """
    file = own_file(item.row)
    if file is None:
        return
    content = file.read_bytes()
    copy = item.run_set.with_name(METHOD_FILE)
    if not copy.is_file() or copy.read_bytes() != content:
        check_unchanged(item)
        write_atomic(copy, content)


def check_unchanged(item: Item) -> None:
    """Make sure that an item would run the file that it was planned with.

    Raises:
        UserError: if not.
    """
    file = own_file(item.row)
    if file is not None and file_sha256(file) != item.method.source_sha256:
        raise UserError(
            f"{file} was changed while the benchmark was running, so some runs would be of one method and some of "
            "another. Start the same command again: runs of the old file are then done anew."
        )


def _write_copy(output: Path, name: str, content: bytes) -> Path:
    """Below a folder that says what the content is, so that no other process needs another content there."""
    copy = output.resolve() / METHODS / hashlib.sha256(content).hexdigest()[:16] / name
    if not copy.is_file() or copy.read_bytes() != content:
        write_atomic(copy, content)
    return copy


def own_file(row: MethodRow) -> Path | None:
    """The file that a row's method comes from, or ``None`` if it comes with a package.

    Raises:
        UserError: if there is no such file.
    """
    if row.class_path is None or not is_file_reference(row.class_path):
        return None
    try:
        return split_reference(row.class_path)[0]
    except MethodFileError as error:
        raise UserError(str(error)) from error
