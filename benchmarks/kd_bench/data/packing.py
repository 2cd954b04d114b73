"""Pack a folder of images into shards: each is either there and whole, or not there; the rest is packed next time."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd_bench.data.image_folder import FolderImages
from kd_bench.data.shard_index import IMAGE, LABEL, keep_index, read_index, scan
from kd_bench.data.shards import find_shards, shard_path
from kd_bench.errors import UserError

SPLITS = ("train", "val")

# small files are waited for, not computed; as many are read at once
_READERS = 16

Advance = Callable[[int], None]
"""Told how many more images are packed."""


@dataclass(frozen=True)
class Packed:
    """Outcome of :func:`pack`.

    Attributes:
        images: number of images in all shards.
        written: number of shards that were written.
        kept: number of shards that were there before.
    """

    images: int
    written: int
    kept: int


def pack(source: Path, destination: Path, shard_size: int, console: Console | None = None) -> Packed:
    """Pack ``source/train`` and ``source/val``.

    Shards are in a random order of the images, the same each time, so that other programs can read them one after the
    other; :class:`~kd_bench.data.shards.ShardImages` reads them in the folder's order.

    Args:
        source: the folder of images.
        destination: folder of the shards.
        shard_size: images in a shard.
        console: where to show progress; standard error by default.

    Raises:
        UserError: if the folder is not as expected, the destination has other shards, or there is no room.
    """
    images = {split: FolderImages(source / split) for split in SPLITS}
    if images["train"].wnids != images["val"].wnids:
        odd = min(set(images["train"].wnids) ^ set(images["val"].wnids))
        raise UserError(
            f"{source}/train and {source}/val do not have the same classes: {odd} is in one of them only. Complete the "
            "other."
        )
    plans = [plan for split in SPLITS for plan in _plan(images[split], split, destination, shard_size)]
    written = 0
    with _disk_errors(destination), _progress(plans, console) as progress:
        destination.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            if plan.path.exists():
                _check(plan)
                progress.done(plan, len(plan.positions))
                continue
            _write(plan, partial(progress.done, plan))
            written += 1
    return Packed(sum(map(len, images.values())), written, len(plans) - written)


@dataclass(frozen=True)
class _Plan:
    """One shard: which images go into which file."""

    path: Path
    images: FolderImages
    positions: np.ndarray

    def keys(self) -> tuple[str, ...]:
        return tuple(self.images.keys[position].decode() for position in self.positions)


def _plan(images: FolderImages, split: str, destination: Path, shard_size: int) -> list[_Plan]:
    for key in images.keys:
        if b"." in key:
            raise UserError(
                f"{images.folder / key.decode()} has a dot in its name, which separates name and ending in shards; "
                "rename it."
            )
    order = np.random.default_rng(0).permutation(len(images))
    parts = [order[start : start + shard_size] for start in range(0, len(order), shard_size)]
    plans = [_Plan(shard_path(destination, split, number), images, part) for number, part in enumerate(parts)]
    if foreign := set(find_shards(destination, split)) - {plan.path for plan in plans}:
        raise _other(min(foreign))
    return plans


def _check(plan: _Plan) -> None:
    if read_index(plan.path).keys != plan.keys():
        raise _other(plan.path)


def _other(path: Path) -> UserError:
    return UserError(
        f"{path} was packed from other images or with another shard size; give the same --shard-size as before, choose "
        "another destination, or remove the shards there."
    )


def _write(plan: _Plan, advance: Advance) -> None:
    temporary = plan.path.with_name(f".{plan.path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for key, label, content in _contents(plan):
                    _add(tar, key + LABEL, str(label).encode())
                    _add(tar, key + IMAGE, content)
                    advance(1)
            file.flush()
            os.fsync(file.fileno())
        index = scan(temporary)
        os.replace(temporary, plan.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    keep_index(plan.path, index)


def _contents(plan: _Plan) -> Iterator[tuple[str, int, bytes]]:
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(plan.positions), _READERS):
            batch = plan.positions[start : start + _READERS].tolist()
            for position, content in zip(batch, pool.map(plan.images.read, batch), strict=True):
                yield plan.images.keys[position].decode(), int(plan.images.labels[position]), content


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


class _Shown:
    """Progress as bars on a terminal, as a line a shard elsewhere."""

    def __init__(self, plans: list[_Plan], console: Console, progress: Progress | None) -> None:
        self._left = {plan.path: len(plan.positions) for plan in plans}
        self._console, self._progress = console, progress
        self._task = progress.add_task("images", total=sum(self._left.values())) if progress else None

    def done(self, plan: _Plan, count: int) -> None:
        self._left[plan.path] -= count
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=plan.path.name, advance=count)
        elif not self._left[plan.path]:
            self._console.print(f"{plan.path.name}: {len(plan.positions):,} images", markup=False)


@contextmanager
def _progress(plans: list[_Plan], console: Console | None) -> Iterator[_Shown]:
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Shown(plans, console, None)
        return
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Shown(plans, console, progress)


@contextmanager
def _disk_errors(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot pack into {destination}: {error.strerror or error} ({error.filename or destination}). The shards "
            "written so far are whole; make room, or choose another destination, and run the command again."
        ) from error
