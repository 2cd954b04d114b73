"""The driver's output directory, on the nodes of a cluster that may or may not share its file system."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from kd_bench.layout import STATES
from kd_bench.storage import write_atomic

TOKEN_FILE = f"{STATES}/.token"

Files = Mapping[str, bytes]
"""Path relative to the output directory → content."""


@dataclass(frozen=True)
class Home:
    """An output directory that can be recognised.

    Attributes:
        output: its absolute path on the driver's machine.
        token: content of a file in it that no other directory has.
    """

    output: Path
    token: str

    @classmethod
    def of(cls, output: Path) -> Home:
        """That of this machine.

        Args:
            output: the benchmark's output directory.
        """
        path = output / TOKEN_FILE
        if not path.exists():
            write_atomic(path, secrets.token_hex(16).encode())
        return cls(output.absolute(), path.read_text())

    @property
    def is_here(self) -> bool:
        """Whether this machine sees it."""
        try:
            return (self.output / TOKEN_FILE).read_text() == self.token
        except OSError:
            return False

    def directory(self) -> Path:
        """Where to work on this machine: the directory itself, or one of the machine's own in its place.

        Raises:
            PermissionError: if somebody else has made the latter.
        """
        if self.is_here:
            return self.output
        name = sha256(f"{self.output} {self.token}".encode()).hexdigest()[:16]
        own = Path(tempfile.gettempdir()) / f"kd_bench-{name}"
        own.mkdir(mode=0o700, exist_ok=True)
        if own.stat().st_uid != os.getuid():
            raise PermissionError(f"{own} belongs to somebody else; remove it")
        return own


def pack(root: Path, paths: Iterable[Path]) -> Files:
    """Read files to send them away.

    Args:
        root: an output directory.
        paths: files below it; those that do not exist are left out.
    """
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def unpack(root: Path, files: Files) -> None:
    """Write what is not there yet.

    Args:
        root: an output directory.
        files: what another machine has packed.

    Raises:
        DiskFullError: if there is no space left.
    """
    for name, content in files.items():
        path = root / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomic(path, content)
