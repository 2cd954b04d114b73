"""The mean prediction of the teacher for each class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_kd.callbacks.fusion.batches import BatchReader, training_batches
from lightning_kd.callbacks.fusion.step import FusionFit, average_prediction
from lightning_kd.engine.dry_run import quiet


class ClassMeans:
    """Running class means of predictions.

    Args:
        num_classes: number of classes ``C``.
    """

    def __init__(self, num_classes: int) -> None:
        self._sums = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        self._counts = torch.zeros(num_classes, dtype=torch.float64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            logits: the teacher's logits, ``(B, C)``.
            labels: class indices, ``(B,)``.
        """
        # a product with one-hot rows, because scattered additions are not deterministic on a GPU
        members = F.one_hot(labels, len(self._counts)).to(logits.dtype)
        self._sums += (members.T @ logits.softmax(-1)).double().cpu()
        self._counts += members.sum(0).double().cpu()

    def means(self) -> Tensor:
        """Row ``c`` is the mean prediction for class ``c``, ``(C, C)``; uniform for a class that was never seen."""
        seen = self._counts[:, None] > 0
        means = self._sums / self._counts[:, None].clamp_min(1.0)
        return torch.where(seen, means, torch.full_like(means, 1.0 / len(self._counts)))


def measure_class_means(fit: FusionFit, read: BatchReader) -> Tensor:
    """Class means of the teachers' predictions over the training set, ``(C, C)``; teachers in eval mode.

    The training dataloader is used as the Trainer uses it (with its transforms, without the held-out samples); the
    random state is untouched, and all ranks end with the same means.

    Raises:
        ValueError: if there is no teacher or no training batch.
    """
    engine = fit.engine
    if not engine.teachers:
        raise ValueError("TrilateralGeometry looks at the teacher's predictions, but there is no teacher: pass one")
    networks = [teacher.module for teacher in engine.teachers]
    assert engine.network is not None
    gathered: ClassMeans | None = None
    with quiet(engine.network.module, *networks):
        for raw in training_batches(fit.trainer):
            (args, kwargs), labels = read(raw)
            views = [teacher.view(args, kwargs, engine.settings.logits) for teacher in engine.teachers]
            logits = average_prediction([view.logits for view in views])
            gathered = gathered or ClassMeans(logits.shape[1])
            gathered.add(logits, labels)
    if gathered is None:
        raise ValueError("the training dataloader yields no batch to take the teacher's class means from")
    means: Tensor = fit.trainer.strategy.broadcast(gathered.means())
    return means
