"""A student, a teacher and replayable data, with BatchNorm and dropout, for the tests of the teacher cache."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from support import Innocent, data, make_teacher, trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_kd import Distillation, DistillationModule, Teacher
from lightning_kd.callbacks import TeacherCache
from lightning_kd.data import Replayed
from lightning_kd.methods import KD


class Student(Innocent):
    """Calls its network with the batch as it is."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y)


def noise(image: Tensor) -> Tensor:
    return image + 0.5 * torch.randn_like(image)


def samples(views: int = 2, seed: int = 0, transform: Any = noise, count: int = 24) -> Replayed:
    return Replayed(data(count), transform, seed=seed, views=views)


class Result:
    """What a fit left behind."""

    def __init__(self, student: Student, calls: int, cache: TeacherCache | None) -> None:
        self.student, self.calls, self.cache = student, calls, cache

    @property
    def counts(self) -> tuple[int, int]:
        assert self.cache is not None
        return self.cache.hits, self.cache.misses


def fit(
    cache: TeacherCache | None = None,
    *,
    door: int = 2,
    methods: Any = None,
    dataset: Any = None,
    teacher: Any = None,
    student: Any = None,
    epochs: int = 4,
    loader: dict[str, Any] | None = None,
    distillation: dict[str, Any] | None = None,
    ckpt_path: Any = None,
    **options: Any,
) -> Result:
    torch.manual_seed(0)
    student = Student(lr=0.02) if student is None else student
    teacher = make_teacher() if teacher is None else teacher
    calls: list[int] = []
    for each in teacher if isinstance(teacher, list) else [teacher]:
        module = each.module if isinstance(each, Teacher) else each
        module.register_forward_pre_hook(lambda *args: calls.append(1))
    methods = KD() if methods is None else methods
    dataset = samples() if dataset is None else dataset
    batches = DataLoader(dataset, **{"batch_size": 5, **(loader or {})})
    callbacks = [] if cache is None else [cache]
    callbacks += options.pop("callbacks", [])
    L.seed_everything(1, verbose=False)
    if door == 1:
        module: Any = DistillationModule(student, teacher, methods, **(distillation or {}))
        trainer(max_epochs=epochs, callbacks=callbacks, **options).fit(module, batches, ckpt_path=ckpt_path)
    else:
        callbacks.append(Distillation(teacher, methods, **(distillation or {})))
        trainer(max_epochs=epochs, callbacks=callbacks, **options).fit(student, batches, ckpt_path=ckpt_path)
    return Result(student, len(calls), cache)
