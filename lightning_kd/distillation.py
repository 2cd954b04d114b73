"""Door 2: distil a LightningModule that goes to the Trainer as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from torch import nn
from torch.optim import Optimizer
from typing_extensions import override

from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import LogitsOf
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.target import Target
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.base import DistillationMethod, Weight

Teachers = nn.Module | Teacher | Sequence[nn.Module | Teacher] | None
Methods = DistillationMethod | Sequence[DistillationMethod]


class Distillation(L.Callback):
    """Adds distillation to the LightningModule that is being fitted; nothing in it is edited.

    The total loss is ``task_weight * (the module's own loss) + Σ weight_i * method_i(exchange)``; every unweighted term
    is logged as ``kd/<name>``. Methods' trainable parts join the student's optimizer. Checkpoints hold the student's
    keys only, so its class loads them; the methods' weights travel in the callback's state.

    Args:
        teacher: an ``nn.Module``, a LightningModule, a list of them, or ``None`` for self-distillation. Frozen, in eval
            mode, moved and cast like the student, and absent from parameters, checkpoints and DDP.
        method: one method instance or a list of them.
        task_weight: factor of the module's own loss; a number or a schedule.
        network: dotted name of the sub-module whose call is distilled; found when it is the only one.
        target: where the labels are in the batch: index, key or callable.
        logits: callable from a network's output to its logits, where the default rules do not find them.

    Raises:
        TypeError: if ``method`` holds a class or something else than a method, or a teacher is no module.
        ValueError: if a method needs a teacher and none was given.

    Example::

        trainer = L.Trainer(callbacks=[Distillation(teacher, method=KD(temperature=4, weight=0.9), task_weight=0.1)])
        trainer.fit(student, datamodule=datamodule)
    """

    def __init__(
        self,
        teacher: Teachers = None,
        method: Methods = (),
        *,
        task_weight: Weight = 1.0,
        network: str | None = None,
        target: Target | None = None,
        logits: LogitsOf | None = None,
    ) -> None:
        super().__init__()
        methods = _as_methods(method)
        teachers = _as_teachers(teacher)
        needing = [type(item).__name__ for item in methods if item.needs_teacher]
        if needing and not teachers:
            raise ValueError(
                f"{', '.join(needing)} needs a teacher, but teacher=None was given; pass the teacher network"
            )
        self.engine = Engine(teachers, methods, Settings(task_weight, network, target, logits))
        self._owner: L.LightningModule | None = None
        self._release: Callable[[], None] | None = None

    def bind_to(self, owner: L.LightningModule, release: Callable[[], None]) -> None:
        """Act only for ``owner``; a Trainer keeps callbacks when it goes on to fit another module.

        Args:
            owner: the wrapping module.
            release: called when the Trainer is done with it.
        """
        self._owner, self._release = owner, release

    @property
    def peers(self) -> list[nn.Module]:
        """The teachers that train along (online methods): the user's own objects, to be saved or exported."""
        return list(self.engine.peers)

    @property
    @override
    def state_key(self) -> str:
        return f"Distillation[{','.join(self.engine.names)}]"

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Attach before the strategy wraps the module."""
        if stage == "fit" and (self._owner is None or pl_module is self._owner):
            student = getattr(pl_module, "distilled", pl_module)
            self.engine.attach(trainer, pl_module, student)

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run the setup pass of methods that have one."""
        if self._owner is None or pl_module is self._owner:
            self.engine.setup_pass(trainer, pl_module)

    @override
    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Clear the gradients of peers with an optimizer of their own."""
        self.engine.before_zero_grad()

    @override
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Step peers with an optimizer of their own."""
        self.engine.before_optimizer_step()

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the epoch's views of training data that repeat their random draws."""
        if self._owner is None or pl_module is self._owner:
            self.engine.begin_epoch(trainer)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Step the schedulers of peers with an optimizer of their own."""
        self.engine.end_epoch()

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the module and the teachers as they were."""
        self._detach()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the module and the teachers as they were: teardown does not run after an exception."""
        self._detach()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers of the methods."""
        return self.engine.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the methods' weights and buffers."""
        self.engine.load_state_dict(state_dict)

    def _detach(self) -> None:
        self.engine.detach()
        if self._release is not None:
            self._release()


def _as_methods(method: Any) -> list[DistillationMethod]:
    methods = list(method) if isinstance(method, Sequence) else [method]
    if not methods:
        raise ValueError("no method given: pass method=KD() or a list of methods (see `lightning-kd methods`)")
    for item in methods:
        if isinstance(item, type):
            raise TypeError(f"method holds the class {item.__name__}, expected an instance: write {item.__name__}(...)")
        if not isinstance(item, DistillationMethod):
            raise TypeError(
                f"method holds a {type(item).__name__}, expected instances of DistillationMethod, such as KD()"
            )
    return methods


def _as_teachers(teacher: Any) -> list[Teacher]:
    if teacher is None:
        return []
    if isinstance(teacher, list | tuple):
        return [item if isinstance(item, Teacher) else Teacher(item) for item in teacher]
    return [teacher if isinstance(teacher, Teacher) else Teacher(teacher)]
