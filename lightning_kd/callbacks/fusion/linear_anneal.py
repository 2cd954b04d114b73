"""From the teacher to the labels in the course of the training."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.step import FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy, check_share


class LinearAnneal(FusionStrategy):
    r"""Follow the teacher first and the labels last.

    In epoch :math:`e = 1 \dots N`:

    .. math:: \alpha = \mathrm{start} + (\mathrm{end} - \mathrm{start})\,\frac{e - 1}{N - 1}

    which with the defaults is :math:`(N - e)/(N - 1)`.

    Args:
        start: share of the distillation loss in the first epoch.
        end: its share in the last epoch and after it.
        epochs: number of epochs ``N``; by default the Trainer's ``max_epochs``.

    Raises:
        ValueError: if a share is not between 0 and 1, or there is no epoch.

    Reference: the schedule is an ablation baseline; annealing from teacher to labels is due to Jafari et al.,
    "Annealing Knowledge Distillation", EACL 2021, arXiv:2104.07163.
    """

    def __init__(self, start: float = 1.0, end: float = 0.0, epochs: int | None = None) -> None:
        check_share("start", start)
        check_share("end", end)
        if epochs is not None and epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.start, self.end, self.epochs = start, end, epochs

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """The ratio of this epoch, ``(B,)``.

        Raises:
            ValueError: if the number of epochs is unknown.
        """
        progress = step.exchange.progress
        epochs = self.epochs or progress.max_epochs
        if epochs is None:
            raise ValueError(
                "LinearAnneal does not know when the training ends: the Trainer has no max_epochs; pass epochs="
            )
        done = min(progress.epoch / (epochs - 1), 1.0) if epochs > 1 else 0.0
        return torch.full_like(step.task, self.start + (self.end - self.start) * done)
