"""What validation monitors share: they watch the calls of the student's network and add no forward pass of it."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.data import Indexed
from lightning_kd.distillation import Distillation
from lightning_kd.engine.attach import Patches
from lightning_kd.engine.exchange import LogitsOf, View
from lightning_kd.engine.network import Network, find_network
from lightning_kd.engine.taps import Call, Recorder
from lightning_kd.engine.target import Target, find_target


class ValidationMonitor(L.Callback):
    """Base class of the monitors.

    Subclasses write :meth:`update`, :meth:`results` and :meth:`reset`.

    Args:
        prefix: values are logged as ``<prefix>/<name>``.
        network: dotted name of the student's network, where it cannot be found.
        target: where the labels are in the batch.
        logits: callable from the network's output to its logits.
        dataloader_idx: which validation dataloader to watch.

    The last three default to those of the :class:`~lightning_kd.Distillation` in the same Trainer, if there is one.
    """

    def __init__(
        self,
        prefix: str,
        network: str | None = None,
        target: Target | None = None,
        logits: LogitsOf | None = None,
        dataloader_idx: int = 0,
    ) -> None:
        super().__init__()
        self.prefix = prefix
        self.dataloader_idx = dataloader_idx
        self._network, self._target, self._logits = network, target, logits
        self._recorder: Recorder | None = None
        self._patches = Patches()

    @property
    def student_taps(self) -> list[str]:
        """Layers of the student to capture."""
        return []

    def open(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install what is needed; called once before anything is validated."""

    def update(self, trainer: L.Trainer, pl_module: L.LightningModule, call: Call, student: View, target: Any) -> None:
        """Take in one validation batch.

        Args:
            trainer: the trainer.
            pl_module: the module.
            call: the last call of the student's network in this step.
            student: its output, logits and features.
            target: labels found in the batch, or ``None``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement update")

    def results(self) -> dict[str, Tensor]:
        """The values of this epoch, equal on all ranks."""
        raise NotImplementedError(f"{type(self).__name__} must implement results")

    def reset(self, device: torch.device) -> None:
        """Forget what was taken in, and work on ``device`` from now on."""
        raise NotImplementedError(f"{type(self).__name__} must implement reset")

    def distillation(self, trainer: L.Trainer) -> Distillation | None:
        """The distillation in the same Trainer."""
        return next(iter(distillations(trainer)), None)

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the hooks before anything is compiled, where hooks added later would be ignored."""
        self._open(trainer, pl_module)

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an epoch; install the hooks under ``Trainer.validate``."""
        self._open(trainer, pl_module)
        self.reset(pl_module.device)

    @override
    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Watch the student's network."""
        if self._recorder is not None and dataloader_idx == self.dataloader_idx:
            self._recorder.start()

    @override
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in what the network returned."""
        if self._recorder is None or dataloader_idx != self.dataloader_idx:
            return
        self._recorder.stop()
        calls = self._recorder.take()
        if not calls:
            raise RuntimeError(
                f"{type(self).__name__} saw no call of the student's network "
                f"({self._recorder.network.path or 'the LightningModule itself'}) in validation_step; call it as "
                "`self.model(x)` (not `self.model.forward(x)`), or pass `network=` with the name of the one that is"
            )
        sample = batch.sample if isinstance(batch, Indexed) else batch
        view = View(calls[-1].output, calls[-1].features, self._logits)
        self.update(trainer, pl_module, calls[-1], view, find_target(sample, self._target))

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's values."""
        values = {f"{self.prefix}/{name}": value for name, value in self.results().items()}
        if not trainer.sanity_checking and not trainer.barebones:
            # equal on all ranks already; sync_dist only tells Lightning so
            pl_module.log_dict(values, sync_dist=True)

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove the hooks."""
        self._close()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the hooks: teardown does not run after an exception."""
        self._close()

    def _open(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._recorder is not None:
            return
        distillation = self.distillation(trainer)
        if distillation is not None:
            settings = distillation.engine.settings
            self._network = self._network or settings.network
            self._target = settings.target if self._target is None else self._target
            self._logits = self._logits or settings.logits
        network = find_network(getattr(pl_module, "distilled", pl_module), self._network)
        self._recorder = hooked_recorder(network, self.student_taps, self._patches)
        self.open(trainer, pl_module)

    def _close(self) -> None:
        self._patches.undo()
        self._recorder = None


def distillations(trainer: L.Trainer) -> list[Distillation]:
    """The distillation callbacks of a Trainer."""
    callbacks: list[L.Callback] = cast(Any, trainer).callbacks
    return [item for item in callbacks if isinstance(item, Distillation)]


def hooked_recorder(network: Network, taps: list[str], patches: Patches) -> Recorder:
    """A recorder that works by hooks alone, whatever the network.

    Unlike a shadowed ``forward``, hooks can come off in any order, so monitor and engine need not know of each other.
    """
    recorder = Recorder(dataclasses.replace(network, compiled=True), taps, with_grad=False)
    recorder.install(patches)
    return recorder


def class_indices(logits: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Flatten logits and labels to rows, without the rows whose label is negative (ignored).

    Args:
        logits: ``(..., C)``.
        target: class indices of the leading shape, or probabilities ``(..., C)``, of which the largest counts.

    Returns:
        Logits ``(R, C)`` in at least float32, and class indices ``(R,)``.

    Raises:
        ValueError: if there are no labels, or they do not fit the logits.
    """
    if isinstance(target, Tensor) and target.shape == logits.shape and target.is_floating_point():
        target = target.argmax(-1)
    if not isinstance(target, Tensor) or target.shape != logits.shape[:-1]:
        given = f"of shape {tuple(target.shape)}" if isinstance(target, Tensor) else f"{type(target).__name__}"
        raise ValueError(
            f"expected labels of shape {tuple(logits.shape[:-1])} for logits of shape {tuple(logits.shape)}, got "
            f"{given}; pass `target=` (an index, a key or a callable) to say where they are in the validation batch"
        )
    rows, labels = logits.flatten(0, -2), target.flatten()
    kept = labels >= 0
    return (rows[kept].float() if rows.dtype.itemsize < 4 else rows[kept]), labels[kept]
