"""Where the files of CIFAR-100 are on this machine; where they are not, they are downloaded."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torchvision
from filelock import FileLock
from torch import Tensor

from kd_bench.data.places import DATA_VARIABLE, data_dir, refuse_download
from kd_bench.errors import UserError

FOLDER = torchvision.datasets.CIFAR100.base_folder
ARCHIVE = torchvision.datasets.CIFAR100.filename

_TEMPORARY = ".cifar-100-"

# what tells a failure of the disk from one of the connection, which are OSErrors as well
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class Checksums:
    """md5 of the archive and of the files in it."""

    archive: str
    train: str
    test: str
    meta: str


def public_checksums() -> Checksums:
    """Those of the files that the authors publish, as torchvision knows them."""
    known = torchvision.datasets.CIFAR100
    return Checksums(known.tgz_md5, known.train_list[0][1], known.test_list[0][1], known.meta["md5"])


def find_cifar100(root: Path | None, checksums: Checksums) -> Path:
    """The folder around ``cifar-100-python``; its files are verified when they are read.

    Looked for in ``root``, or without it in :func:`~kd_bench.data.places.data_dir` and its ``cifar100``, as a folder
    and as the authors' archive, which is unpacked. As a last resort torchvision downloads the public archive.

    Args:
        root: where to look.
        checksums: what is expected; other files than the public ones are not downloaded.

    Raises:
        UserError: if the files cannot be had.
    """
    places = [root] if root is not None else [data_dir() / "cifar100", data_dir()]
    for place in places:
        if (place / FOLDER).is_dir():
            return place
    place = next((place for place in places if (place / ARCHIVE).is_file()), places[0])
    with _disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".cifar-100.lock"):
            for stale in place.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(stale)
            # another process may have provided it meanwhile
            if (place / FOLDER).is_dir():
                return place
            if (place / ARCHIVE).is_file():
                _unpack(place, checksums)
            elif checksums == public_checksums():
                _download(place)
            else:
                raise UserError(f"there is neither {place / FOLDER} nor {place / ARCHIVE}; write the data anew.")
    return place


@lru_cache(maxsize=4)  # a process opens the same data for every training, teacher and evaluation
def read_cifar100(place: Path, checksums: Checksums, train: bool) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, 32, 32)`` of bytes and fine labels ``(N,)``.

    The files are pickles. Torchvision unpickles them only after their md5 was found to be the expected one.

    Args:
        place: the folder around ``cifar-100-python``.
        checksums: what is expected.
        train: whether to read the training or the test images.

    Raises:
        UserError: if a file is missing or not the expected one.
    """
    known = torchvision.datasets.CIFAR100
    expected = {
        "train_list": [[known.train_list[0][0], checksums.train]],
        "test_list": [[known.test_list[0][0], checksums.test]],
        "meta": {**known.meta, "md5": checksums.meta},
    }
    try:
        dataset = type("ExpectedCIFAR100", (known,), expected)(str(place), train=train)
    except (RuntimeError, OSError) as error:
        raise UserError(f"{_problem(place / FOLDER, checksums) or error} {_remedy(place)}") from error
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(dataset.targets)


def _unpack(place: Path, checksums: Checksums) -> None:
    archive = place / ARCHIVE
    found = _md5(archive)
    if found != checksums.archive:
        raise UserError(
            f"{archive} is corrupt or another file: expected md5 {checksums.archive}, found {found}. Remove it and run "
            f"the command again, or replace it by {torchvision.datasets.CIFAR100.url}."
        )
    with TemporaryDirectory(dir=place, prefix=_TEMPORARY) as temporary:
        torchvision.datasets.utils.extract_archive(str(archive), temporary)
        _move(Path(temporary), place)


def _download(place: Path) -> None:
    refuse_download("CIFAR-100")
    with TemporaryDirectory(dir=place, prefix=_TEMPORARY) as temporary:
        try:
            torchvision.datasets.CIFAR100(temporary, train=False, download=True)
        except (OSError, http.client.HTTPException, RuntimeError, EOFError, tarfile.TarError) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            raise UserError(
                f"CIFAR-100 is not in {place}, and downloading it from {torchvision.datasets.CIFAR100.url} failed: "
                f"{' '.join(str(error).split())}. {_remedy(place)}"
            ) from error
        _move(Path(temporary), place)


def _move(temporary: Path, place: Path) -> None:
    """Into place under its name only now that it is whole."""
    os.replace(temporary / FOLDER, place / FOLDER)


def _problem(folder: Path, checksums: Checksums) -> str | None:
    for name in ("train", "test", "meta"):
        expected = getattr(checksums, name)
        if not (folder / name).is_file():
            return f"{folder} has no file {name!r}."
        if (found := _md5(folder / name)) != expected:
            return f"{folder / name} is corrupt or another file: expected md5 {expected}, found {found}."
    return None


def _remedy(place: Path) -> str:
    return (
        f"Remove {place / FOLDER} if it is there, and put {torchvision.datasets.CIFAR100.url} as {place / ARCHIVE} (it "
        f"is unpacked by itself), or set {DATA_VARIABLE} to a folder that has it."
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        room = f" ({shutil.disk_usage(place).free / 1e6:.0f} MB are free)" if error.errno == errno.ENOSPC else ""
        raise UserError(
            f"cannot put CIFAR-100 into {place}: {error.strerror or error}{room}. It needs about 360 MB; make room, or "
            f"set {DATA_VARIABLE} to a folder on another disk."
        ) from error
