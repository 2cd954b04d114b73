"""The checkpoint that an interrupted training goes on from: whose it is, and a file that is whole or not there."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins import CheckpointIO
from typing_extensions import override

from kd_bench.storage import atomic_file

STATE = "kd_bench"
"""Key of what the benchmark adds to Lightning's checkpoints."""

T = TypeVar("T")


class UnusableCheckpointError(RuntimeError):
    """A checkpoint could be read, but the training cannot go on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training leaves its state.

    Attributes:
        path: the file.
        owner: fingerprint of all that decides the training's numbers; with another one, a checkpoint is of no use.
        seconds: how often it is written, at the end of an epoch; 0 for every epoch.
        at_end: whether the end of the training is kept in any case, for trainings that others depend on.
    """

    path: Path
    owner: str
    seconds: float
    at_end: bool = False

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, or ``None`` if there is none; what is corrupt or another training's is removed.

        Nothing in the file is executed: it is unpickled with ``weights_only``, which allows tensors and plain values.
        """
        for litter in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            litter.unlink(missing_ok=True)
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            owner = found[STATE]["owner"]
        except FileNotFoundError:
            return None
        except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
            warnings.warn(f"{self.path} is not a checkpoint ({error}); the training starts anew", stacklevel=2)
        else:
            if owner == self.owner:
                return dict(found)
        self.remove()
        return None

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoints:
    """Those of an item, which may take several trainings.

    Attributes:
        folder: where they lie.
        owner: see :class:`Checkpoint`.
        seconds: see :class:`Checkpoint`.
    """

    folder: Path
    owner: str
    seconds: float

    def of(self, training: int, planned: int) -> Checkpoint:
        """That of a training, counted from 1, of ``planned`` ones."""
        path = self.folder / f"training-{training}.ckpt"
        return Checkpoint(path, self.owner, self.seconds, at_end=training < planned)

    def remove(self) -> None:
        """Delete all of them, with the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class CheckpointFile(CheckpointIO):
    """Lets Lightning restore a checkpoint that has been read already, and write others safely.

    A checkpoint is a convenience: where it cannot be written, the training goes on without.

    Args:
        loaded: what :meth:`Checkpoint.load` gave.
    """

    def __init__(self, loaded: dict[str, Any] | None) -> None:
        self._loaded = loaded

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with atomic_file(Path(path)) as file:
                torch.save(checkpoint, file)
        # PyTorch's writer raises the latter when a file ends before it should
        except (OSError, RuntimeError) as error:
            warnings.warn(
                f"cannot write the checkpoint {path}: {error}. The training goes on; if it is interrupted, it starts "
                "from an older checkpoint or anew",
                stacklevel=2,
            )

    @override
    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        loaded, self._loaded = self._loaded, None
        assert loaded is not None
        return loaded

    @override
    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def retried(train: Callable[[], T], remove: Callable[[], None]) -> T:
    """Train; if a checkpoint turns out to be of no use, remove it and train from the beginning.

    Args:
        train: starts from what there is.
        remove: removes it.
    """
    try:
        return train()
    except UnusableCheckpointError as error:
        warnings.warn(f"{error}; the training starts anew", stacklevel=2)
        remove()
    return train()
