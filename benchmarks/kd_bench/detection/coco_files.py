"""Where the files of COCO 2017 are on this machine, and how they are downloaded."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from torchvision.datasets.utils import check_md5

from kd_bench.data.places import DATA_VARIABLE, data_dir
from kd_bench.errors import UserError
from kd_bench.models.download import fetch
from kd_bench.storage import explain_full_disk, is_disk_full


@dataclass(frozen=True)
class Archive:
    """One of the authors' archives.

    Attributes:
        url: where it is.
        md5: of it, or ``None`` for one whose content is only checked file by file.
        gives: what is in it and needed, relative to the folder of COCO.
    """

    url: str
    md5: str | None
    gives: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]


ARCHIVES = (
    Archive(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        "f4bbac642086de4f52a3fdda2de5fa2c",
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    ),
    Archive("http://images.cocodataset.org/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", ("val2017",)),
    Archive("http://images.cocodataset.org/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", ("train2017",)),
)


def annotation_file(root: Path, name: str) -> Path:
    """The annotations of the set ``"train"`` or ``"val"``."""
    return root / "annotations" / f"instances_{name}2017.json"


def find_coco(root: Path | None = None) -> Path:
    """The folder with ``annotations``, ``train2017`` and ``val2017``.

    Nothing is downloaded: it would be 20 GB. See :func:`download_coco`.

    Args:
        root: the folder; by default ``coco`` in :func:`~kd_bench.data.places.data_dir`.

    Raises:
        UserError: if something is missing.
    """
    place = data_dir() / "coco" if root is None else root
    missing = [name for archive in ARCHIVES for name in archive.gives if not (place / name).exists()]
    if missing:
        urls = ", ".join(archive.url for archive in ARCHIVES if set(archive.gives) & set(missing))
        raise UserError(
            f"COCO 2017 is not complete in {place}: there is no {', no '.join(missing)}. Unpack {urls} there, or let "
            f"`python -m kd_bench.detection.coco_files {place}` do so (20 GB), put a link to the folder there, or set "
            f"{DATA_VARIABLE} to the folder around it."
        )
    return place


def download_coco(root: Path, archives: tuple[Archive, ...] = ARCHIVES) -> None:
    """Download and unpack what is missing; an interrupted download goes on where it stopped.

    Args:
        root: the folder of COCO. Archives that lie there already are unpacked, and kept.
        archives: what to get.

    Raises:
        UserError: if it cannot be had.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".coco.lock"):
            for archive in archives:
                if not all((root / name).exists() for name in archive.gives):
                    _provide(root, archive)
    except OSError as error:
        if is_disk_full(error):
            raise UserError(explain_full_disk(root, "; COCO could not be unpacked")) from error
        raise UserError(
            f"cannot put COCO into {root}: {error.strerror or error}. Name a folder that can be written to."
        ) from error


def _provide(root: Path, archive: Archive) -> None:
    own = root / archive.name
    path = own if own.is_file() else fetch(archive.url, cache_dir=root)
    if archive.md5 is not None and not check_md5(str(path), archive.md5):
        raise UserError(
            f"{path} is damaged or another file than {archive.url}: its md5 is not {archive.md5}. Remove it and start "
            "the same command again."
        )
    _unpack(path, root, archive)
    if path != own:
        path.unlink()


def _unpack(path: Path, root: Path, archive: Archive) -> None:
    try:
        with TemporaryDirectory(dir=root, prefix=".coco-") as temporary, zipfile.ZipFile(path) as packed:
            # checks the CRC of every file, and keeps them inside the folder whatever they are called
            packed.extractall(temporary)
            for name in archive.gives:
                if not (Path(temporary) / name).exists():
                    raise UserError(f"{path} has no {name}; it is another archive than {archive.url}. Remove it.")
            for name in archive.gives:
                _move(Path(temporary) / name, root / name)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is damaged: {error}. Remove it and start the same command again.") from error


def _move(new: Path, place: Path) -> None:
    """Into place under its name only now that it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(new, place)


if __name__ == "__main__":
    try:
        download_coco(Path(sys.argv[1]) if len(sys.argv) > 1 else data_dir() / "coco")
    except UserError as problem:
        sys.exit(f"error: {problem}")
