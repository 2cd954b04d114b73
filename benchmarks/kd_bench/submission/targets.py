"""What a path that is to be checked stands for: an entry, a folder of entries, corrections, or whole leaderboards."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path

from kd_bench.corrections import CORRECTIONS
from kd_bench.entries import RESULTS
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.submission.folder import MAX_CORRECTION, list_entries, list_files
from kd_bench.submission.problem import Problem
from kd_bench.submission.schema import SCHEMA
from kd_bench.submission.teachers import REGISTRY

_LEVELS = 3
"""Folders of protocol, method and pair."""


@dataclass
class Targets:
    """What is to be checked.

    Attributes:
        entries: absolute path → folder of an entry, as it was given.
        corrections: the same of a correction.
        files: the same of the registry of teachers and the schema.
        problems: what could not be made sense of.
    """

    entries: dict[Path, Path] = field(default_factory=dict)
    corrections: dict[Path, Path] = field(default_factory=dict)
    files: dict[Path, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Find out what a path stands for.

        Args:
            path: from the command line, or of a file that a pull request changes.
        """
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            self._refuse(path, f"cannot be looked at: {error.strerror or type(error).__name__}")
            return
        if stat.S_ISLNK(mode):
            self.problems.append(Problem(str(path), "links", "is a symbolic link; give what it leads to"))
        elif stat.S_ISDIR(mode):
            self._add_folder(path)
        else:
            self._add_file(path)

    def _add_folder(self, folder: Path) -> None:
        parents = [folder.absolute().name, *(parent.name for parent in folder.absolute().parents)]
        if RESULTS in parents[: _LEVELS + 1]:
            around = [folder.absolute(), *folder.absolute().parents][: parents.index(RESULTS) + 1]
            if link := next((each for each in around if each.is_symlink()), None):
                self.problems.append(Problem(str(link), "links", "is a symbolic link; put the folder itself here"))
                return
            self._add_entries(folder, _LEVELS - parents.index(RESULTS))
        elif (folder / RUN_SET_FILE).is_file():
            self._add_entries(folder, 0)
        elif parents[0] == CORRECTIONS:
            self._add_corrections(folder)
        elif any((folder / name).is_dir() for name in (RESULTS, CORRECTIONS)):
            for name in (RESULTS, CORRECTIONS, REGISTRY, SCHEMA):
                if (folder / name).exists() or (folder / name).is_symlink():
                    self.add(folder / name)
        else:
            self._refuse(
                folder,
                "is none of: leaderboards, their results or corrections, a folder below, or the output of "
                "`lightning-kd bench run`",
            )

    def _add_file(self, path: Path) -> None:
        parent = path.absolute().parent
        if path.name in (REGISTRY, SCHEMA):
            self.files[path.absolute()] = path
        elif parent.name == CORRECTIONS:
            self.corrections[path.absolute()] = path
        elif path.name == RUN_SET_FILE or RESULTS in [each.name for each in parent.parents][:_LEVELS]:
            self._add_folder(path.parent)
        else:
            self._refuse(path, f"is no part of leaderboards; give the folder of an entry, or its {RUN_SET_FILE}")

    def _add_entries(self, folder: Path, levels: int) -> None:
        listing = list_entries(folder, levels)
        self.problems += listing.problems
        for path in listing.found.values():
            self.entries.setdefault(path.absolute(), path)

    def _add_corrections(self, folder: Path) -> None:
        listing = list_files(folder, ".json", MAX_CORRECTION)
        self.problems += listing.problems
        for path in listing.found.values():
            self.corrections.setdefault(path.absolute(), path)

    def _refuse(self, path: Path, message: str) -> None:
        self.problems.append(Problem(str(path), "files", message))


def leaderboards_of(path: Path) -> Path | None:
    """The leaderboards that a path lies in: the folder that holds ``results`` or ``corrections``, if it is one of them.

    Args:
        path: a file or folder; need not exist.
    """
    for folder in (path.absolute(), *path.absolute().parents):
        if folder.name in (RESULTS, CORRECTIONS):
            return folder.parent
        if (folder / RESULTS).is_dir() or (folder / CORRECTIONS).is_dir():
            return folder
    return None
