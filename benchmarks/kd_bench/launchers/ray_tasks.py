"""What the tasks of a Ray cluster do."""

from __future__ import annotations

import shutil
import traceback
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import torch

from kd_bench.heartbeat import Publish
from kd_bench.items import Item
from kd_bench.launchers.attempt import Outcome, attempt
from kd_bench.launchers.ray_home import Files, Home, pack, unpack
from kd_bench.method_copy import PackedMethod
from kd_bench.state import ItemState, read_state
from kd_bench.teachers import CARD_FILE, WEIGHTS_FILE, load_teacher, teacher_folder

_CURVES = (".csv", ".yaml")


@dataclass(frozen=True)
class Parcel:
    """What a task sends back.

    Attributes:
        outcome: how the item ended.
        state: its last state.
        files: what the driver may not have: result, predictions, kept weights, and from a machine of its own the
            curves.
        log: what was logged on a machine of its own.
    """

    outcome: Outcome
    state: ItemState | None
    files: Files
    log: bytes = b""


@dataclass(frozen=True)
class Obtained:
    """A teacher, or why there is none.

    Attributes:
        files: weights and card.
        problem: the traceback.
    """

    files: Files
    problem: str | None = None


def obtain_teacher(item: Item, home: Home, threads: int) -> Obtained:
    """Train or fetch the teacher of an item, if nobody has done so, before the items that wait for it take up CPUs.

    Args:
        item: any item with this teacher.
        home: the driver's output directory.
        threads: PyTorch threads.
    """
    torch.set_num_threads(threads)
    try:
        here = replace(item, output=home.directory())
        seconds = item.options.checkpoint_seconds
        load_teacher(here.protocol, here.pair.teacher, here.output / "teachers", checkpoint_seconds=seconds)
        obtained = pack_teacher(here)
        assert obtained is not None
        return obtained
    except Exception:
        return Obtained({}, traceback.format_exc())


def pack_teacher(item: Item) -> Obtained | None:
    """The teacher of an item as it lies in the item's output directory, if it does."""
    folder = teacher_folder(item.protocol, item.pair.teacher, item.output / "teachers")
    files = pack(item.output, [folder / WEIGHTS_FILE, folder / CARD_FILE])
    return Obtained(files) if len(files) == 2 else None


def do_item(
    item: Item,
    expected: str,
    home: Home,
    threads: int,
    teacher: Obtained | None,
    board: Any,
    method: PackedMethod | None = None,
) -> Parcel:
    """Do an item.

    Args:
        item: what to do.
        expected: its fingerprint as the driver knows it.
        home: the driver's output directory.
        threads: PyTorch threads.
        teacher: its teacher; ``None`` where all tasks see the same files anyway.
        board: handle of the :class:`~kd_bench.launchers.ray_board.Board`, if the driver looks there.
        method: the file of its method, unless that comes with a package.
    """
    torch.set_num_threads(threads)

    def publish(state: ItemState) -> None:
        board.put.remote(item.key, state.model_dump_json())

    return perform(item, expected, home, teacher, None if board is None else publish, method)


def perform(
    item: Item,
    expected: str,
    home: Home,
    teacher: Obtained | None,
    publish: Publish | None,
    method: PackedMethod | None = None,
) -> Parcel:
    """Do an item on this machine and pack what came of it; for the arguments see :func:`do_item`."""
    root = home.directory()
    here = replace(item, output=root)
    if method is not None and not home.is_here:
        here = method.unpack(here)

    def prepare() -> None:
        if teacher is None:
            return
        if teacher.problem is not None:
            reason = _last_line(teacher.problem)
            raise RuntimeError(f"there is no teacher {item.pair.teacher}: {reason}\n{teacher.problem}")
        if not home.is_here:
            unpack(root, teacher.files)

    outcome = attempt(here, expected=expected, publish=publish, prepare=prepare)
    state = read_state(here.state)
    kept = [here.weights] if here.options.keep_weights else []
    files = pack(root, [here.predictions, *kept, here.result])
    if home.is_here:
        return Parcel(outcome, state, files)
    parcel = Parcel(outcome, state, {**files, **_curves(here, state)}, here.log.read_bytes())
    # nobody looks for it here; what an interrupted attempt leaves is of use to the next one
    for path in (here.predictions, here.weights, here.result, here.log, here.state):
        path.unlink(missing_ok=True)
    shutil.rmtree(here.curves, ignore_errors=True)
    return parcel


def _curves(item: Item, state: ItemState | None) -> Files:
    """Those of this machine, in folders that no other attempt has."""
    when = "" if state is None else f"-{state.started:%Y%m%dT%H%M%S}"
    found = pack(item.output, sorted(path for path in item.curves.rglob("*") if path.suffix in _CURVES))
    return {str(PurePosixPath(name).parent) + when + "/" + PurePosixPath(name).name: found[name] for name in found}


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
