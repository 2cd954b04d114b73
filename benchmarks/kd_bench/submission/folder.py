"""Which files a submission may consist of, and reading them without following where they lead."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.results import TaskName
from kd_bench.run_set_files import METHOD_FILE, RUN_SET_FILE
from kd_bench.submission.problem import Problem, RefusedError, shown
from kd_bench.verification.record import VERIFICATION_FILE

MAX_RUN_SET = 2_000_000
MAX_VERIFICATION = 2_000_000
MAX_METHOD = 200_000
MAX_CORRECTION = 100_000
MAX_REGISTRY = 2_000_000
MAX_PREDICTIONS: dict[TaskName, int] = {"classification": 5_000_000, "detection": 25_000_000}
MAX_ENTRY = 60_000_000
MAX_FILES = 64
"""Limits in bytes, and the number of files in the folder of an entry."""

MAX_FOLDERS = 100_000
"""Folders that are looked into, over all."""

_PREDICTIONS = re.compile(r"seed-(0|[1-9][0-9]{0,9})\.npz")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,250}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass
class Listing:
    """What was found in folders.

    Attributes:
        found: name → path of what may be there.
        problems: what may not be there.
    """

    found: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def list_entry(folder: Path) -> Listing:
    """The files of an entry, none of them opened.

    Args:
        folder: ``<protocol>/<method>/<student>__<teacher>``.
    """
    listing = _list(folder, MAX_FILES, "an entry's folder holds only files")
    total = 0
    for name, path in list(listing.found.items()):
        limit = _limit(name)
        if limit is None:
            del listing.found[name]
            listing.problems.append(
                Problem(
                    str(path),
                    "files",
                    f"does not belong here; an entry consists of {RUN_SET_FILE}, seed-<N>.npz, {METHOD_FILE} and "
                    f"{VERIFICATION_FILE}, detectors have {TEACHER_DETECTIONS}. Remove it",
                )
            )
            continue
        if problem := _not_plain(path, limit):
            del listing.found[name]
            listing.problems.append(problem)
            continue
        total += path.lstat().st_size
    if total > MAX_ENTRY:
        listing.problems.append(
            Problem(str(folder), "size", f"all files together have {total:,} bytes, at most {MAX_ENTRY:,} are accepted")
        )
    return listing


def list_files(folder: Path, ending: str, limit: int) -> Listing:
    """The files of a folder that holds nothing but one kind of files.

    Args:
        folder: for example ``corrections``.
        ending: how their names end.
        limit: most bytes of each.
    """
    listing = _list(folder, MAX_FOLDERS, f"the folder holds only files *{ending}")
    for name, path in list(listing.found.items()):
        problem = _not_plain(path, limit)
        if not name.endswith(ending):
            problem = Problem(str(path), "files", f"does not belong here; the folder holds only files *{ending}")
        if problem:
            del listing.found[name]
            listing.problems.append(problem)
    return listing


def list_entries(root: Path, levels: int) -> Listing:
    """The folders of entries below a folder, which holds nothing else.

    Args:
        root: ``results`` or a folder below.
        levels: how deep the entries lie: 3 below ``results``, 0 for an entry itself.
    """
    level = Listing({"": root})
    if problem := _not_folder(root):
        return Listing(problems=[problem])
    for _ in range(levels):
        below = Listing(problems=level.problems)
        for name, folder in level.found.items():
            listing = _list(folder, MAX_FOLDERS, "only folders may be here")
            below.problems += listing.problems
            lower: dict[str, str] = {}
            for child, path in listing.found.items():
                twin = lower.setdefault(child.lower(), child)
                problem = _not_folder(path) or (_twins(path, twin) if twin != child else None)
                if problem:
                    below.problems.append(problem)
                else:
                    below.found[f"{name}/{child}"] = path
            if len(below.found) > MAX_FOLDERS:
                below.problems.append(Problem(str(root), "files", f"has more than {MAX_FOLDERS:,} folders"))
                return Listing(problems=below.problems)
        level = below
    return level


def read_file(path: Path, limit: int) -> bytes:
    """The content of a plain file; links are not followed, nothing is waited for.

    Args:
        path: the file.
        limit: most bytes that are read.

    Raises:
        RefusedError: if it is another thing than a plain file, larger, or cannot be read.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # not every system has them
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RefusedError("files", "is not a plain file")
            content = file.read(limit + 1) if status.st_size <= limit else b""
            size = max(status.st_size, len(content))
    except OSError as error:
        raise RefusedError("files", f"cannot be read: {error.strerror or type(error).__name__}") from error
    if size > limit:
        raise RefusedError("size", f"has {size:,} bytes, at most {limit:,} are accepted")
    return content


def _limit(name: str) -> int | None:
    limits = {RUN_SET_FILE: MAX_RUN_SET, VERIFICATION_FILE: MAX_VERIFICATION, METHOD_FILE: MAX_METHOD}
    if name == TEACHER_DETECTIONS or _PREDICTIONS.fullmatch(name):
        return MAX_PREDICTIONS["detection"]  # the task is not known yet; see kd_bench.submission.archive
    return limits.get(name)


def _list(folder: Path, most: int, expected: str) -> Listing:
    listing = Listing()
    try:
        with os.scandir(folder) as items:
            for number, item in enumerate(items):
                if number >= most:
                    message = f"holds more than {most:,} files; {expected}"
                    listing.problems.append(Problem(str(folder), "files", message))
                    break
                listing.found[item.name] = folder / item.name
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}; {expected}"
        listing.problems.append(Problem(str(folder), "files", message))
    listing.found = dict(sorted(listing.found.items()))
    return listing


def _not_plain(path: Path, limit: int) -> Problem | None:
    """Why something is not a plain file of bounded size, if so."""
    try:
        status = path.lstat()
    except OSError as error:
        return Problem(str(path), "files", f"cannot be read: {error.strerror or type(error).__name__}")
    if stat.S_ISLNK(status.st_mode):
        return Problem(str(path), "links", "is a symbolic link; put the file itself here")
    if stat.S_ISDIR(status.st_mode):
        return Problem(str(path), "files", "is a folder, where only files may be. Remove it")
    if not stat.S_ISREG(status.st_mode):
        return Problem(str(path), "files", "is a device, pipe or socket; only plain files may be here. Remove it")
    if status.st_nlink > 1:
        return Problem(str(path), "links", "is a hard link to a file that has other names; put a copy here")
    if status.st_size > limit:
        message = f"has {status.st_size:,} bytes, at most {limit:,} are accepted"
        return Problem(str(path), "size", message)
    return None


def _not_folder(path: Path) -> Problem | None:
    """Why something is not a folder with an acceptable name, if so."""
    expected = "expected <protocol>/<method>/<student>__<teacher>, folders that hold nothing else"
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        return Problem(str(path), "files", f"cannot be read: {error.strerror or type(error).__name__}")
    if stat.S_ISLNK(mode):
        return Problem(str(path), "links", "is a symbolic link; put the folder itself here")
    if not stat.S_ISDIR(mode):
        return Problem(str(path), "files", f"does not belong here; {expected}. Remove it")
    name = path.name or path.absolute().name
    if not _FOLDER.fullmatch(name):
        return Problem(str(path), "files", f"the name {shown(name)!r} is not accepted; {expected}")
    if problem := bad_on_windows(name):
        return Problem(str(path), "files", f"the name {shown(name)!r} {problem}; {expected}")
    return None


def bad_on_windows(name: str) -> str | None:
    """Why a checkout with a file of this name would fail on Windows, if so.

    Args:
        name: of ASCII characters.
    """
    if _RESERVED.fullmatch(name):
        return "is reserved on Windows"
    if name.endswith((".", " ")):
        return "ends with a dot or a space, which Windows drops"
    return None


def _twins(path: Path, twin: str) -> Problem:
    message = f"differs from {shown(twin)!r} only by upper and lower case, which some file systems cannot tell apart"
    return Problem(str(path), "files", message)
