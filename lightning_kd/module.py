"""Door 1: wrap a student, a LightningModule or a plain network, into a LightningModule that distils it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.utilities.compile import from_compiled
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from typing_extensions import override

from lightning_kd.distillation import Distillation, Methods, Teachers
from lightning_kd.engine.attach import Patches
from lightning_kd.engine.exchange import LogitsOf
from lightning_kd.engine.target import Target
from lightning_kd.methods.base import Weight
from lightning_kd.task import Classification

_ROUTED = (
    "log",
    "log_dict",
    "optimizers",
    "lr_schedulers",
    "manual_backward",
    "toggle_optimizer",
    "untoggle_optimizer",
    "clip_gradients",
)
"""What a student calls on itself and a nested LightningModule refuses; it goes through the wrapper."""

_OWN = {
    "configure_callbacks",
    "forward",
    "state_dict",
    "load_state_dict",
    "parameters",
    "named_parameters",
    "train",
    "eval",
}
"""Overrides of a student that are not delegated: the wrapper needs its own."""


class DistillationModule(L.LightningModule):
    """A student with distillation, as a LightningModule.

    The student keeps its ``training_step``, logging names, validation, optimizers, schedulers and hooks; every hook it
    overrides is delegated to it. See :class:`~lightning_kd.Distillation` for what is added to the loss.

    Args:
        student: a LightningModule (unchanged), or a plain ``nn.Module`` together with ``task``.
        teacher: an ``nn.Module``, a LightningModule, a list of them, or ``None`` for self-distillation.
        method: one method instance or a list of them.
        task_weight: factor of the student's own loss; a number or a schedule.
        network: dotted name of the student's sub-module whose call is distilled; found when it is the only one.
        target: where the labels are in the batch: index, key or callable.
        logits: callable from a network's output to its logits, where the default rules do not find them.
        task: what a plain ``nn.Module`` is trained for, e.g. ``Classification(num_classes=100)``.

    Attributes:
        student: the user's own object.

    Raises:
        TypeError: if the student is no module, or ``task`` and the kind of student do not go together.

    Example::

        module = DistillationModule(student, teacher, method=[KD(temperature=4, weight=0.9)], task_weight=0.1)
        L.Trainer(max_epochs=240).fit(module, datamodule=datamodule)
        module.student  # trained
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teachers = None,
        method: Methods = (),
        *,
        task_weight: Weight = 1.0,
        network: str | None = None,
        target: Target | None = None,
        logits: LogitsOf | None = None,
        task: Classification | None = None,
    ) -> None:
        super().__init__()
        if isinstance(student, OptimizedModule) and isinstance(student._orig_mod, L.LightningModule):
            student = from_compiled(student)
        _check_student(student, task)
        self.student = student
        if task is not None:
            task.adopt(student, target=target, logits=logits)
            self.task = task
        # in a list: a callback is no module, and its teachers must not be found through this one
        self._callback = [
            Distillation(teacher, method, task_weight=task_weight, network=network, target=target, logits=logits)
        ]
        self._routes = Patches()
        self._callback[0].bind_to(self, self._routes.undo)
        for name in ("training_step", "configure_optimizers", *_delegated(self._lit)):
            # bound methods rather than methods here: Lightning looks at their signatures
            object.__setattr__(self, name, getattr(self._lit, name))

    @property
    def _lit(self) -> L.LightningModule:
        """The LightningModule that does the student's work: the student itself, or the task around a plain network."""
        found = self.student if isinstance(self.student, L.LightningModule) else self.task
        assert isinstance(found, L.LightningModule)
        return found

    @property
    def distilled(self) -> nn.Module:
        """Where the engine looks for the network."""
        return self.student

    @property
    def distillation(self) -> Distillation:
        """The callback that adds the terms."""
        return self._callback[0]

    def save_student(self, path: str | os.PathLike[str]) -> Path:
        """Save the trained student alone, atomically.

        For a LightningModule the file is a Lightning checkpoint that ``StudentClass.load_from_checkpoint(path)`` reads;
        for a plain network it is its ``state_dict``.

        Args:
            path: where to; missing folders are made.

        Returns:
            The path.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = dict(self.student.state_dict())
        if isinstance(self.student, L.LightningModule):
            content = {
                "state_dict": content,
                "pytorch-lightning_version": L.__version__,
                "epoch": self.trainer.current_epoch if self._trainer is not None else 0,
                "global_step": self.trainer.global_step if self._trainer is not None else 0,
            }
            if self.student.hparams:
                content[self.CHECKPOINT_HYPER_PARAMS_NAME] = getattr(self.student, "_hparams_name", "kwargs")
                content[self.CHECKPOINT_HYPER_PARAMS_KEY] = dict(self.student.hparams)
            self.student.on_save_checkpoint(content)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            torch.save(content, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    # what the Trainer asks of a LightningModule

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The student's forward."""
        return self.student(*args, **kwargs)

    @override
    def configure_callbacks(self) -> Sequence[L.Callback] | L.Callback:
        """Put the distillation first among the Trainer's callbacks, and contribute the student's own.

        Callbacks that a module contributes come last; a weight-averaging callback that copies the module must find the
        methods' connectors in place, so ours is inserted at the front instead.
        """
        self._route()
        callbacks: list[L.Callback] = cast(Any, self.trainer).callbacks
        if self.distillation not in callbacks:
            callbacks.insert(0, self.distillation)
        return self._lit.configure_callbacks()

    @property
    @override
    def automatic_optimization(self) -> bool:
        """As the student has it."""
        return self._lit.automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, value: bool) -> None:
        self._lit.automatic_optimization = value

    @property
    @override
    def example_input_array(self) -> Tensor | tuple[Any, ...] | dict[str, Any] | None:
        """As the student has it."""
        return self._lit.example_input_array

    @example_input_array.setter
    def example_input_array(self, value: Tensor | tuple[Any, ...] | dict[str, Any] | None) -> None:
        self._lit.example_input_array = value

    @property
    @override
    def hparams(self) -> Any:
        """The student's hyper-parameters."""
        return self._lit.hparams

    @property
    def _device_mesh(self) -> Any:
        return self.__dict__.get("_mesh")

    @_device_mesh.setter
    def _device_mesh(self, mesh: Any) -> None:
        # strategies set it on the module they drive; a student reads it in its configure_model
        self.__dict__["_mesh"] = mesh
        student = self._modules.get("student") if "_modules" in self.__dict__ else None
        if isinstance(student, L.LightningModule):
            student._device_mesh = mesh

    def _route(self) -> None:
        """Send what the student calls on itself through this module, until the Trainer is done."""
        self._routes.undo()
        for name in _ROUTED:
            self._routes.replace(self._lit, name, self._make_route(name), transparent=False)

    def _make_route(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def routed(*args: Any, **kwargs: Any) -> Any:
                return getattr(self, name)(*args, **kwargs)

            return routed

        return make


def _check_student(student: Any, task: Any) -> None:
    if isinstance(student, type) or not isinstance(student, nn.Module):
        hint = " (a class; instantiate it first)" if isinstance(student, type) else ""
        raise TypeError(f"student must be a LightningModule or an nn.Module, got {type(student).__name__}{hint}")
    if isinstance(student, L.LightningModule) and task is not None:
        raise TypeError(
            f"{type(student).__name__} is a LightningModule and brings its own training_step, so task= must be left out"
        )
    if not isinstance(student, L.LightningModule) and task is None:
        raise TypeError(
            f"{type(student).__name__} is a plain nn.Module, which does not say how it is trained: pass "
            "task=Classification(num_classes=...), or wrap it into a LightningModule"
        )


def _delegated(student: L.LightningModule) -> list[str]:
    """Names of the LightningModule methods that ``student`` overrides."""
    names = []
    for name in dir(L.LightningModule):
        if name.startswith("_") or name in _OWN or name in vars(DistillationModule):
            continue
        if callable(getattr(L.LightningModule, name)) and is_overridden(name, student, L.LightningModule):
            names.append(name)
    return names
