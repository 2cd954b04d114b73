"""TGeo-KD: a small network chooses the ratio from the geometry of student, teacher and label."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_kd.callbacks.fusion.batches import BatchReader, HeldOutBatches, InputsOf, seeded
from lightning_kd.callbacks.fusion.class_means import measure_class_means
from lightning_kd.callbacks.fusion.features import (
    GeometryFeatures,
    check_features,
    geometry_features,
    geometry_width,
)
from lightning_kd.callbacks.fusion.hold_out import share_samples
from lightning_kd.callbacks.fusion.last_layer import align_last_layer
from lightning_kd.callbacks.fusion.random_weights import mixed_seed
from lightning_kd.callbacks.fusion.step import FusionFit, FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy
from lightning_kd.callbacks.fusion.training_split import TrainingSplit
from lightning_kd.callbacks.fusion.unroll import (
    Unrolling,
    full_gradient,
    gradient_from_alignment,
    jvp_alignment,
)
from lightning_kd.callbacks.fusion.virtual import VirtualStudent, learning_rates
from lightning_kd.engine.dry_run import Inputs

Unroll = Literal["last_layer", "jvp", "full"]

_SHARDING = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)


class TrilateralGeometry(FusionStrategy):
    r"""Sample-wise ratios learnt on held-out training samples.

    .. math:: \alpha_i = \mathrm{sigmoid}(\mathrm{MLP}_\omega(\Delta_i))

    where :math:`\Delta_i` (:func:`~lightning_kd.callbacks.fusion.features.geometry_features`) describes how student
    (detached), teacher, label and the class mean of the teacher lie to each other. Every ``every`` steps the student
    takes a virtual step with the present ratios, and :math:`\omega` descends the cross-entropy that held-out samples
    would have after it. The held-out samples come from the training set and are not used to train the student.

    Each process takes the virtual step on its own part of the batch; the gradients of :math:`\omega` are averaged.

    Args:
        validation: dataloader of held-out *training* samples, from
            :func:`~lightning_kd.callbacks.fusion.hold_out.hold_out`; only its data set, batch size and collate
            function are used. By default, ``fraction`` of the training dataloader's samples are taken out for the fit,
            which is refused where that is not safe.
        fraction: share of samples that is held out, if there is no ``validation``.
        features: parts of the geometry.
        compact: norms and cosines instead of vectors, for many classes.
        unroll: ``"last_layer"`` moves only the final linear layer in the virtual step (closed form, two forward passes
            of the student); ``"jvp"`` moves all of it, by forward-mode differentiation; ``"full"`` gives the same
            numbers as ``"jvp"`` with a second-order graph.
        every: learn once every so many training steps; more is cheaper.
        warmup_epochs: epochs before the ratio network learns.
        lr: learning rate of the ratio network's Adam.
        weight_decay: its weight decay. The defaults of both are the numbers of the authors' released code, where the
            ratio network receives no gradient at all.
        decoupled: let the weight decay act on the weights (AdamW). ``False`` adds it to the gradients, as the released
            code does: they are small (they carry the student's learning rate), the decay drowns them, and every ratio
            ends at 0.5.
        seed: seed of the ratio network, the split and the order of held-out batches.
        inputs: from a batch to what the student's network is called with, where ``training_step`` does more than to
            pass the batch's first tensor on.

    Raises:
        ValueError: if an argument is out of range.

    Reference: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation",
    ICLR 2024, arXiv:2312.15112.
    """

    def __init__(
        self,
        validation: DataLoader[Any] | None = None,
        *,
        fraction: float = 0.1,
        features: GeometryFeatures = "vertices+edges",
        compact: bool = False,
        unroll: Unroll = "last_layer",
        every: int = 1,
        warmup_epochs: int = 1,
        lr: float = 0.1,
        weight_decay: float = 0.05,
        decoupled: bool = True,
        seed: int = 0,
        inputs: InputsOf | None = None,
    ) -> None:
        check_features(features)
        if unroll not in get_args(Unroll):
            raise ValueError(f"unroll must be one of {', '.join(get_args(Unroll))}, got {unroll!r}")
        if every < 1 or warmup_epochs < 0:
            raise ValueError(f"every must be at least 1 and warmup_epochs at least 0, got {every} and {warmup_epochs}")
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction is the share of held-out samples and must be between 0 and 1, got {fraction}")
        self.features: GeometryFeatures = features
        self.compact, self.unroll, self.every, self.warmup_epochs = compact, unroll, every, warmup_epochs
        self.lr, self.weight_decay, self.decoupled, self.seed = lr, weight_decay, decoupled, seed
        self.network: nn.Sequential | None = None
        self.class_means: Tensor | None = None
        self._validation, self._inputs = validation, inputs
        self._split = TrainingSplit(fraction, seed) if validation is None else None
        self._optimizer: torch.optim.Optimizer | None = None
        self._fit: FusionFit | None = None
        self._read: BatchReader | None = None
        self._held_out: HeldOutBatches | None = None
        self._pending: tuple[Inputs, Tensor] | None = None
        self._steps = self._updates = 0

    @override
    def setup(self, fit: FusionFit) -> None:
        """Take the held-out samples out of the training set, unless they were given."""
        if self._split is not None:
            self._split.install(fit.trainer)

    @override
    def begin(self, fit: FusionFit) -> None:
        """Find the held-out samples and, unless a checkpoint brings them, the teacher's class means."""
        trainer = fit.trainer
        if isinstance(trainer.strategy, _SHARDING):
            raise RuntimeError(
                "TrilateralGeometry runs the student with other weights, which needs them whole on every process, but "
                f"{type(trainer.strategy).__name__} shards them; use DDP, or a strategy that does not learn"
            )
        loader = self._validation if self._split is None else self._split.held_out(trainer)
        assert loader is not None
        self._fit, self._read = fit, BatchReader(fit, self._inputs)
        self._held_out = HeldOutBatches(loader, self._read, self.seed, trainer.global_rank, trainer.world_size)
        self.network = self._optimizer = self.class_means = None
        self._steps = self._updates = 0
        if not fit.resumed:
            self._create(measure_class_means(fit, self._read))

    @override
    def check(self, fit: FusionFit) -> None:
        """Refuse held-out samples that the student is trained or validated on."""
        self._refuse_shared(fit.trainer.train_dataloader, "training")
        self._refuse_shared(fit.trainer.val_dataloaders, "validation")

    @override
    def before_step(self, fit: FusionFit) -> None:
        """Read a held-out batch if the ratio network learns in this step."""
        assert self._held_out is not None
        due = fit.trainer.current_epoch >= self.warmup_epochs and self._steps % self.every == 0
        self._pending = self._held_out.draw(self._updates) if due else None
        self._steps += 1

    @override
    def update(self, step: FusionStep) -> None:
        """Let the ratio network learn, if :meth:`before_step` has read a held-out batch."""
        assert self._fit is not None
        assert self._read is not None
        self._read.check(step.exchange)
        if self._pending is None:
            return
        held_out, self._pending = self._pending, None
        network, optimizer = self._created()
        omega = list(network.parameters())
        with torch.enable_grad(), torch.autocast(omega[0].device.type, enabled=False):
            gradients = self._gradients(step, self._ratios(step), omega, held_out)
        flat = torch.cat([gradient.detach().flatten() for gradient in gradients])
        flat = self._fit.trainer.strategy.reduce(flat, reduce_op="mean")
        # a virtual step that overflows teaches nothing; Adam would never recover from it
        flat = torch.where(flat.isfinite().all(), flat, torch.zeros_like(flat))
        for parameter, gradient in zip(omega, torch.split(flat, [p.numel() for p in omega]), strict=True):
            parameter.grad = gradient.view_as(parameter)
        optimizer.step()
        optimizer.zero_grad()
        self._updates += 1

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """The ratios, ``(B,)``."""
        with torch.autocast(step.task.device.type, enabled=False):
            return self._ratios(step)

    @override
    def teardown(self) -> None:
        """Give the training set back."""
        if self._split is not None:
            self._split.undo()
        self._fit = self._read = self._held_out = self._pending = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """Ratio network, its optimizer, class means and counters; empty before the first fit."""
        if self.network is None or self._optimizer is None:
            return {}
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "class_means": self.class_means,
            "steps": self._steps,
            "updates": self._updates,
        }

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if not state:
            return
        self._create(state["class_means"])
        network, optimizer = self._created()
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        self._steps, self._updates = state["steps"], state["updates"]

    def _create(self, class_means: Tensor) -> None:
        assert self._fit is not None
        assert self._fit.engine.network is not None
        like = next(p for p in self._fit.engine.network.module.parameters() if p.is_floating_point())
        dtype = like.dtype if like.dtype.itemsize > 4 else torch.float32
        self.class_means = class_means.to(like.device, dtype)
        with seeded(self.seed):
            network = ratio_network(geometry_width(self.features, len(class_means), compact=self.compact))
        self.network = network.to(like.device, dtype)
        make = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        self._optimizer = make(self.network.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def _created(self) -> tuple[nn.Sequential, torch.optim.Optimizer]:
        assert self.network is not None
        assert self._optimizer is not None
        return self.network, self._optimizer

    def _ratios(self, step: FusionStep) -> Tensor:
        network, _ = self._created()
        assert self.class_means is not None
        classes = step.student_logits.shape[1]
        delta = geometry_features(
            step.student_logits.softmax(-1),
            step.teacher_logits.softmax(-1),
            F.one_hot(step.labels, classes).to(step.student_logits.dtype),
            self.class_means.to(step.student_logits.dtype)[step.labels],
            self.features,
            compact=self.compact,
        )
        ratios: Tensor = network(delta.to(self.class_means.dtype)).squeeze(1)
        return ratios

    def _gradients(
        self, step: FusionStep, alpha: Tensor, omega: list[nn.Parameter], held_out: tuple[Inputs, Tensor]
    ) -> list[Tensor]:
        assert self._fit is not None
        engine, trainer = self._fit.engine, self._fit.trainer
        assert engine.network is not None
        rates = learning_rates(trainer, engine.network.module)
        student = VirtualStudent(engine, step.exchange, mixed_seed(self.seed, trainer.global_rank, self._updates))
        inputs, labels = held_out
        loss = partial(student.held_out_loss, inputs=inputs, labels=labels)
        if self.unroll == "last_layer":
            aligned = align_last_layer(student, engine.methods, step.exchange, alpha, rates, loss)
            return gradient_from_alignment(aligned, alpha, omega)
        virtual = Unrolling(student.parameters(rates), rates, student.losses, loss)
        if self.unroll == "full":
            return full_gradient(virtual, alpha, omega)
        return gradient_from_alignment(jvp_alignment(virtual, alpha), alpha, omega)

    def _refuse_shared(self, loaders: Any, kind: str) -> None:
        assert self._held_out is not None
        for dataset in _datasets(loaders):
            if share_samples(dataset, self._held_out.dataset):
                raise ValueError(
                    f"held-out samples (validation=) are among the {kind} data: the ratio must be learnt on training "
                    "samples that nothing else uses. Split with `train, held_out = hold_out(train_dataset)`, train on "
                    "`train` and pass `validation=DataLoader(held_out, batch_size=...)`."
                )


def ratio_network(width: int) -> nn.Sequential:
    """The network of the released code, from ``(B, width)`` to ``(B, 1)`` in ``[0, 1]``."""
    return nn.Sequential(
        nn.Linear(width, 32), nn.LeakyReLU(), nn.Linear(32, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Sigmoid()
    )


def _datasets(loaders: Any) -> list[Any]:
    if isinstance(loaders, dict):
        return [dataset for loader in loaders.values() for dataset in _datasets(loader)]
    if isinstance(loaders, list | tuple):
        return [dataset for loader in loaders for dataset in _datasets(loader)]
    dataset = getattr(loaders, "dataset", None)
    return [] if dataset is None else [dataset]
