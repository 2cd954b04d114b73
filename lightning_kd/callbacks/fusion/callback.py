"""The fusion ratio: how much each sample listens to the teacher, and how much to its label."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.distribution import AlphaDistribution
from lightning_kd.callbacks.fusion.fixed import Fixed
from lightning_kd.callbacks.fusion.step import FusionFit, FusionStep, check_vector
from lightning_kd.callbacks.fusion.strategy import FusionStrategy
from lightning_kd.distillation import Distillation
from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import Exchange


class FusionRatio(L.Callback):
    r"""Weighs task and distillation loss sample by sample, in place of fixed weights.

    .. math:: L = \frac1B \sum_i \alpha_i\,\mathrm{KD}_i + (1 - \alpha_i)\,\mathrm{CE}_i

    Goes beside :class:`~lightning_kd.Distillation` among the Trainer's callbacks, in any order, or beside a
    :class:`~lightning_kd.DistillationModule`. :math:`\mathrm{CE}_i` is the cross-entropy of the captured logits with
    the batch's labels, in at least float32; it stands in for the student's own loss, which is logged but not trained
    (nor is ``task_weight`` used). :math:`\mathrm{KD}_i` is the sum of the methods that have per-sample losses, times
    their weights; other methods are added as ever.

    Once an epoch the distribution of the ratios over the training samples is logged as ``kd/alpha/mean``, ``std``,
    ``q05`` … ``q95``, and their means where the teacher predicts the label and where it does not as
    ``kd/alpha/teacher_right`` and ``kd/alpha/teacher_wrong``.

    Every fit starts the strategy afresh, unless it resumes a checkpoint; then it goes on exactly.

    Args:
        strategy: how the ratios are chosen; a number is a fixed ratio.

    Raises:
        TypeError: if ``strategy`` is neither a strategy nor a number.

    Example::

        trainer = L.Trainer(callbacks=[Distillation(teacher, method=KD(temperature=4)), FusionRatio(LinearAnneal())])
        trainer.fit(student, datamodule=datamodule)
    """

    def __init__(self, strategy: FusionStrategy | float) -> None:
        super().__init__()
        if isinstance(strategy, int | float):
            strategy = Fixed(strategy)
        if not isinstance(strategy, FusionStrategy):
            hint = " (a class; instantiate it)" if isinstance(strategy, type) else ""
            raise TypeError(f"strategy must be a FusionStrategy such as TrilateralGeometry(), got {strategy!r}{hint}")
        self.strategy = strategy
        self._fit: FusionFit | None = None
        self._restored: dict[str, Any] | None = None
        self._distribution = AlphaDistribution()

    def fuse(self, exchange: Exchange, distillation: Tensor) -> Tensor:
        """Combine the losses of one call of the student's network; called by the engine.

        Args:
            exchange: everything about the step.
            distillation: the weighted distillation losses of the samples, ``(B,)``.

        Returns:
            Scalar: the mean over the batch.

        Raises:
            ValueError: unless losses and ratios hold one number a sample.
        """
        rank = 0 if self._fit is None else self._fit.trainer.global_rank
        step = FusionStep.of(exchange, distillation, rank)
        self.strategy.update(step)
        with torch.no_grad():
            alpha = self.strategy.alpha(step).detach()
            check_vector(f"the ratios of {type(self.strategy).__name__}", alpha, len(step.task))
            right = step.teacher_logits.argmax(-1) == step.labels if exchange.teachers else None
            self._distribution.add(alpha, right)
        alpha = alpha.to(step.task.dtype)
        return (alpha * distillation + (1.0 - alpha) * step.task).mean()

    @property
    @override
    def state_key(self) -> str:
        return f"FusionRatio[{type(self.strategy).__name__}]"

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make sure that there is a distillation to act on."""
        if stage == "fit":
            self._release()
            found = [callback for callback in _callbacks(trainer) if isinstance(callback, Distillation)]
            if not found:
                raise RuntimeError(
                    "FusionRatio weighs the losses of a distillation, but the Trainer has none: put "
                    "Distillation(teacher, method=KD()) next to it among the callbacks, or fit a DistillationModule"
                )
            self.strategy.setup(FusionFit(trainer, pl_module, found[0].engine))

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the combination of the losses."""
        engine = _active_engine(trainer)
        self._fit = FusionFit(trainer, pl_module, engine, resumed=self._restored is not None)
        self._distribution = AlphaDistribution()
        engine.fusion = self
        self.strategy.begin(self._fit)
        if self._restored is not None:
            self.strategy.load_state_dict(self._restored)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the strategy look at the dataloaders."""
        if self._fit is not None:
            self.strategy.check(self._fit)

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let the strategy prepare."""
        if self._fit is not None:
            self.strategy.before_step(self._fit)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the distribution of the ratios."""
        if self._fit is not None and not trainer.barebones:
            summary = self._distribution.take(trainer.strategy)
            pl_module.log_dict({f"kd/alpha/{name}": value for name, value in summary.items()}, sync_dist=True)

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the engine as it was."""
        self._release()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the engine as it was: teardown does not run after an exception."""
        self._release()

    @override
    def state_dict(self) -> dict[str, Any]:
        """State of the strategy."""
        return self.strategy.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the strategy when the fit starts."""
        if self._fit is None:
            self._restored = state_dict
        else:
            self.strategy.load_state_dict(state_dict)

    def _release(self) -> None:
        if self._fit is not None and self._fit.engine.fusion is self:
            self._fit.engine.fusion = None
        self._fit = self._restored = None
        self.strategy.teardown()


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    found: list[L.Callback] = cast(Any, trainer).callbacks
    return found


def _active_engine(trainer: L.Trainer) -> Engine:
    """The engine of this fit: a Trainer may still hold the callback of a module that it has fitted before."""
    engines = [
        callback.engine
        for callback in _callbacks(trainer)
        if isinstance(callback, Distillation) and callback.engine.recorder is not None
    ]
    if len(engines) != 1:
        raise RuntimeError(f"FusionRatio weighs the losses of one distillation, but {len(engines)} are active in fit")
    if engines[0].fusion is not None:
        raise RuntimeError("two FusionRatio callbacks act on the same distillation; keep one")
    return engines[0]
