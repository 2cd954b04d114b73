"""Keep what the teacher says, and read it back in later epochs and later runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch.utils.data import IterableDataset
from typing_extensions import override

from lightning_kd.cache.budget import parse_size
from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.fingerprint import fingerprint
from lightning_kd.cache.key import Key, check_same_key, directory_of
from lightning_kd.cache.reader import Reader
from lightning_kd.cache.records import Selection
from lightning_kd.cache.weights import weights_hash
from lightning_kd.callbacks._observation import distillations
from lightning_kd.data import ReplayableDataset, check_replay
from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import View
from lightning_kd.engine.taps import Call
from lightning_kd.engine.teacher import Teacher
from lightning_kd.engine.views import flattened, replayable_in

Stored = Literal["float16", "bfloat16", "float32"]

_DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


class TeacherCache(L.Callback):
    """Calls the teacher once for every sample and view; from then on its logits and taps come from the disk.

    Goes beside :class:`~lightning_kd.Distillation` among the Trainer's callbacks, in any order, or beside a
    :class:`~lightning_kd.DistillationModule`. The training data must be a :class:`~lightning_kd.data.Replayed` (or
    ``MixedUp``, ``CutMixed`` of one), so that every sample has a fixed number of views.

    Entries belong to one teacher (weights, structure), one data set and transform, one seed, one precision, one storage
    type and one choice of taps; anything else has a directory of its own. Every entry is checksummed, and so is what
    the teacher was given: on the CPU in every step, elsewhere, where comparing makes the device wait, in the first step
    of every epoch. With ``dtype="float32"`` training is bit-equal to training without a cache, as far as the teacher's
    answer to a sample does not depend on the batch around it.

    Args:
        path: directory of all caches; made if missing.
        views: the data set's number of views, as a check; taken from it by default.
        dtype: how floating-point numbers are stored: ``"float16"``, ``"bfloat16"`` or ``"float32"``.
        top_k: keep the log-probabilities of so many classes and the mass of the others, in place of all logits, for
            methods that read no more (:class:`~lightning_kd.methods.TopKKD`).
        features: whether layers may be kept too, where methods compare them; they can be large.
        budget: most that a cache may take, in bytes or as ``"20GB"``; it is checked before anything is written.
        reuse: name of one directory in ``path`` that must be used: an error where it does not fit.

    Attributes:
        hits: samples whose teacher was read, in this fit.
        misses: samples whose teacher was called.
        filled: share of all entries, of every sample and view, that are there.
        directories: where they are, one directory a teacher.

    Raises:
        ValueError: for an unknown ``dtype``, or numbers out of range.

    Example::

        train = Replayed(dataset, transform=augment, views=8)
        callbacks = [Distillation(teacher, method=KD()), TeacherCache("cache", budget="20GB")]
        L.Trainer(max_epochs=240, callbacks=callbacks).fit(student, DataLoader(train, batch_size=64, shuffle=True))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        views: int | None = None,
        dtype: Stored = "float16",
        top_k: int | None = None,
        features: bool = True,
        budget: int | str | None = None,
        reuse: str | None = None,
    ) -> None:
        super().__init__()
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
        for name, value in (("views", views), ("top_k", top_k)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.path, self.number_of_views, self.dtype, self.top_k = Path(path), views, _DTYPES[dtype], top_k
        self.features, self.reuse = features, reuse
        self.budget = None if budget is None else parse_size(budget)
        self._readers: list[Reader] = []

    @property
    def hits(self) -> int:
        """Samples whose teacher was read, in this fit."""
        return sum(reader.hits for reader in self._readers)

    @property
    def misses(self) -> int:
        """Samples whose teacher was called, in this fit."""
        return sum(reader.misses for reader in self._readers)

    @property
    def directories(self) -> list[Path]:
        """Where the entries of this fit are, one directory a teacher."""
        return [reader.directory for reader in self._readers]

    @property
    def filled(self) -> float:
        """Share of all entries, of every sample and view, that are there."""
        total = sum(reader.samples * reader.views for reader in self._readers)
        return sum(reader.store.present() for reader in self._readers if reader.store is not None) / max(total, 1)

    def views(
        self, teachers: Sequence[Teacher], keys: Sequence[str], call: Call, teach: Callable[[Teacher], View]
    ) -> list[View]:
        """The teachers' views of a batch; called by the engine.

        Args:
            teachers: the teachers.
            keys: which draws the batch's samples are.
            call: the student's call.
            teach: calls a teacher.
        """
        return [
            reader.view(keys, call, lambda teacher=teacher: teach(teacher))  # type: ignore[misc]  # bound per teacher
            for teacher, reader in zip(teachers, self._readers, strict=True)
        ]

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Come between the engine and the teachers."""
        if stage == "fit":
            self._release(trainer)
            self._readers = []
            engine = _engine(trainer)
            self._refuse(engine)
            engine.teacher_source = self

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the entries, now that data and teachers are in place."""
        engine = _engine(trainer)
        self._refuse(engine)
        dataset = self._dataset(trainer)
        check_replay(dataset)
        self._readers = [self._reader(teacher, engine, dataset, trainer, pl_module) for teacher in engine.teachers]

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have the first inputs of the epoch compared."""
        for reader in self._readers:
            reader.check_next = True

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the files and leave the engine as it was."""
        self._release(trainer)

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the files: teardown does not run after an exception."""
        self._release(trainer)

    def _refuse(self, engine: Engine) -> None:
        if engine.online or not engine.teachers:
            why = "a peer that trains along gives other answers every step" if engine.online else "there is no teacher"
            raise TeacherCacheError(f"TeacherCache keeps the answers of frozen teachers, but {why}; leave it out")
        readers = [type(m).__name__ for m in engine.methods if m.needs_teacher and m.needs_teacher_output]
        able = [type(m).__name__ for m in engine.methods if m.reads_top_k]
        others = sorted(set(readers) - set(able))
        if self.top_k is not None and others:
            raise TeacherCacheError(
                f"TeacherCache(top_k={self.top_k}) keeps the likeliest classes only, but {', '.join(others)} needs all "
                "logits; use TopKKD or TopKDecoupledKL, or leave out `top_k=`"
            )
        with_layers = [type(m).__name__ for m in engine.methods if m.needs_teacher and m.needs_features]
        if with_layers and not self.features:
            raise TeacherCacheError(
                f"{', '.join(with_layers)} compares layers, but TeacherCache(features=False) keeps none; leave it out, "
                "or keep them: features=True, with a budget"
            )

    def _dataset(self, trainer: L.Trainer) -> ReplayableDataset:
        loaders, found = flattened(trainer.train_dataloader), replayable_in(trainer.train_dataloader)
        if len(found) != 1 or len(loaders) != 1:
            given = [getattr(loader, "dataset", loader) for loader in loaders]
            streams = any(isinstance(dataset, IterableDataset) for dataset in given)
            why = " (samples of a stream have no stable index: make it a map-style data set)" if streams else ""
            raise TeacherCacheError(
                "TeacherCache needs one training dataloader whose data set can repeat its random draws, got "
                f"{', '.join(type(dataset).__name__ for dataset in given)}{why}; wrap it: "
                "lightning_kd.data.Replayed(dataset, transform=..., views=...)"
            )
        dataset = found[0]
        if self.number_of_views not in (None, dataset.views):
            raise TeacherCacheError(
                f"TeacherCache(views={self.number_of_views}), but the data set has views={dataset.views}; give both "
                "the same"
            )
        return dataset

    def _reader(
        self,
        teacher: Teacher,
        engine: Engine,
        dataset: ReplayableDataset,
        trainer: L.Trainer,
        module: L.LightningModule,
    ) -> Reader:
        taps = tuple(sorted(set(engine.teacher_taps())))
        selection = Selection(self.dtype, engine.reads_teacher_output, self.top_k, taps)
        key: Key = {
            "teacher": type(teacher.module).__name__,
            "weights": weights_hash(teacher.module),
            "how it runs": repr(teacher.economy),
            "logits by": None if engine.settings.logits is None else fingerprint(engine.settings.logits, "logits"),
            "data": dataset.fingerprint,
            "samples": len(dataset),
            "views": dataset.views,
            "seed": dataset.seed,
            "precision": str(trainer.precision),
            "device": module.device.type,
            "matrix products": torch.get_float32_matmul_precision(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "logits": selection.logits,
            "top_k": self.top_k,
            "taps": list(selection.taps),
        }
        directory = directory_of(self.path, key)
        if self.reuse is not None:
            directory = self.path / self.reuse
            check_same_key(directory, key)
        return Reader(directory, key, selection, len(dataset), dataset.views, self.budget)

    def _release(self, trainer: L.Trainer) -> None:
        for found in distillations(trainer):
            if found.engine.teacher_source is self:
                found.engine.teacher_source = None
        for reader in self._readers:
            reader.close()


def _engine(trainer: L.Trainer) -> Engine:
    found = distillations(trainer)
    if not found:
        raise RuntimeError(
            "TeacherCache keeps the answers of a distillation's teacher, but the Trainer has none: put "
            "Distillation(teacher, method=KD()) next to it among the callbacks, or fit a DistillationModule"
        )
    return found[0].engine
