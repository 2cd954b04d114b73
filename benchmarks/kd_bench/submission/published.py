"""The files of a leaderboards folder as they lie there, before anything is believed about them."""

from __future__ import annotations

import filecmp
import os
import stat
from functools import cached_property
from pathlib import Path, PurePosixPath

from kd_bench.corrections import CORRECTIONS
from kd_bench.entries import RESULTS
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.storage import file_sha256

_DEPTH = 3


class Published:
    """Entries and corrections of a leaderboards folder, as plain files; no link is followed and nothing is parsed.

    Args:
        root: the leaderboards folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._hashes: dict[str, str | None] = {}

    @cached_property
    def _files(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for path in _walk(self.root / RESULTS):
            parts = path.split("/")
            entry, name = "/".join(parts[:_DEPTH]), "/".join(parts[_DEPTH:])
            if name:
                found.setdefault(entry, set()).add(name)
        return found

    @cached_property
    def entries(self) -> frozenset[str]:
        """``<protocol>/<method>/<student>__<teacher>`` of every folder with a file in it."""
        return frozenset(self._files)

    @cached_property
    def loose(self) -> tuple[str, ...]:
        """Files below the results that belong to no entry, with the folder of the results."""
        return tuple(f"{RESULTS}/{path}" for path in _walk(self.root / RESULTS) if path.count("/") < _DEPTH)

    @cached_property
    def corrections(self) -> frozenset[str]:
        """Files in the folder of the corrections, with the folder."""
        return frozenset(f"{CORRECTIONS}/{path}" for path in _walk(self.root / CORRECTIONS))

    def files(self, entry: str) -> set[str]:
        """Names of an entry's files; empty if there is no such entry."""
        return self._files.get(entry, set())

    def folder(self, entry: str) -> Path:
        """Where an entry's files are."""
        return self.root / RESULTS / entry

    def run_set_sha256(self, entry: str) -> str | None:
        """Hash of an entry's ``run_set.json``; ``None`` if there is none."""
        if entry not in self._hashes:
            path = f"{RESULTS}/{entry}/{RUN_SET_FILE}"
            self._hashes[entry] = file_sha256(self.root / path) if self.is_file(path) else None
        return self._hashes[entry]

    def is_file(self, path: str) -> bool:
        """Whether there is a plain file, which a link is not, nor what lies behind one."""
        folders = PurePosixPath(path).parents[:-1]
        return _is_plain(self.root / path) and not any((self.root / folder).is_symlink() for folder in folders)

    def same(self, path: str, other: Published) -> bool:
        """Whether a file has the same content in both folders, or is in neither."""
        here, there = self.is_file(path), other.is_file(path)
        if not (here and there):
            return here == there and not os.path.lexists(self.root / path)
        return filecmp.cmp(self.root / path, other.root / path, shallow=False)


def _walk(root: Path) -> list[str]:
    """Everything below a folder that is not a folder, with slashes; links to folders are not followed."""
    found: list[str] = []
    if root.is_symlink():
        return found
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [Path(folder, name).relative_to(root).as_posix() for name in (*files, *links)]
    return sorted(found)


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
