"""Watch how strongly each term of the loss pulls at the student."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.callbacks._observation import distillations
from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import Exchange
from lightning_kd.engine.network import STATE_NAME, find_network
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.schedules import value_at


class LossBalance(L.Callback):
    """Logs, every ``every_n_steps`` optimizer steps, the gradient norms of the weighted terms at the student's network.

    * ``balance/norm/task`` and ``balance/norm/<method>``: norm of the gradient of ``weight * term``.
    * ``balance/ratio/<method>``: that norm over the task's; far from 1, one of the two hardly counts.
    * ``balance/cosine/<method>``: cosine between both gradients; below 0 they work against each other.

    With ``task_weight=0`` there are only norms.

    A measured step costs one more backward pass a term; all other steps cost nothing. The gradients that train the
    student are left alone: nothing is accumulated and DDP does not notice. Under DDP every rank measures its own batch
    and the mean is logged. Weights are those of the methods; a sample-wise fusion ratio is not seen.

    Args:
        every_n_steps: how often to measure.
        layer: dotted name of a layer of the student's network whose parameters are measured, for example its last
            stage; by default the whole network.
        prefix: what stands before the slash.

    Raises:
        ValueError: if ``every_n_steps`` is not positive.
        RuntimeError: if there is no :class:`~lightning_kd.Distillation` in the Trainer, or the network is compiled such
            that its graph cannot be differentiated twice.

    Example::

        L.Trainer(callbacks=[Distillation(teacher, method=[KD(), RKD()]), LossBalance(every_n_steps=100)])
    """

    def __init__(self, every_n_steps: int = 100, layer: str | None = None, prefix: str = "balance") -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.layer = layer
        self.prefix = prefix
        self._due = False
        self._last = -1
        self._terms: dict[str, list[Tensor]] = {}
        self._task: tuple[Tensor, float] | None = None
        self._parameters: list[nn.Parameter] = []
        self._handles: list[Any] = []

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hook into the methods."""
        found = distillations(trainer)
        if not found:
            raise RuntimeError(
                "LossBalance weighs the terms of a distillation, but there is none in this Trainer: add a Distillation "
                "callback, or fit a DistillationModule"
            )
        self._release()
        self._last = -1
        engine = found[0].engine
        network = find_network(getattr(pl_module, "distilled", pl_module), engine.settings.network)
        _refuse_donated_buffers(compiled=network.compiled)
        measured = network.module if self.layer is None else find_network(network.module, self.layer).module
        self._parameters = [
            parameter
            for name, parameter in measured.named_parameters()
            if parameter.requires_grad and STATE_NAME not in name.split(".")
        ]
        for name, method in zip(engine.names, engine.methods, strict=True):
            self._handles.append(method.register_forward_hook(self._make_hook(engine, name)))

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Decide whether this step is measured; under gradient accumulation, its first batch."""
        step = trainer.global_step
        self._due = step % self.every_n_steps == 0 and step != self._last
        self._last = step if self._due else self._last

    @override
    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Differentiate the terms one by one."""
        if not self._due or self._task is None:
            return
        task_loss, task_weight = self._task
        terms = {name: torch.stack(values).sum() for name, values in self._terms.items()}
        self._forget()
        self._due = False
        task = self._gradient(task_weight * task_loss)
        norms = {"task": _norm(task)}
        values: dict[str, Tensor] = {}
        for name, term in terms.items():
            gradient = self._gradient(term)
            norms[name] = _norm(gradient)
            if task_weight:
                values[f"ratio/{name}"] = norms[name] / norms["task"]
                values[f"cosine/{name}"] = _dot(task, gradient) / (norms["task"] * norms[name])
        values.update({f"norm/{name}": norm for name, norm in norms.items()})
        if not trainer.barebones:
            pl_module.log_dict(
                {f"{self.prefix}/{name}": value for name, value in values.items()}, on_epoch=False, sync_dist=True
            )

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let go of the graph, also where no backward pass came."""
        self._due = False
        self._forget()

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Remove the hooks."""
        self._release()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the hooks: teardown does not run after an exception."""
        self._release()

    def _make_hook(self, engine: Engine, name: str) -> Any:
        def note(method: DistillationMethod, args: tuple[Exchange], term: Tensor) -> None:
            if not self._due or not term.requires_grad:
                return
            (exchange,) = args
            # the engine averages over teachers that a method sees one at a time
            share = 1 if method.uses_all_teachers else max(len(engine.teachers), 1)
            self._terms.setdefault(name, []).append(method.weight_at(exchange.progress) * term / share)
            if exchange.task_loss is not None:
                self._task = exchange.task_loss, value_at(engine.settings.task_weight, exchange.progress)

        return note

    def _gradient(self, term: Tensor) -> list[Tensor]:
        gradients = torch.autograd.grad(term, self._parameters, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(self._parameters, gradients, strict=True)
        ]

    def _forget(self) -> None:
        self._terms, self._task = {}, None

    def _release(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._parameters = []
        self._forget()


def _dot(left: list[Tensor], right: list[Tensor]) -> Tensor:
    return torch.stack([(a.float() * b.float()).sum() for a, b in zip(left, right, strict=True)]).sum()


def _norm(gradient: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part.float()) for part in gradient]))
    return norm


def _refuse_donated_buffers(*, compiled: bool) -> None:
    from torch._functorch import config

    if compiled and getattr(config, "donated_buffer", False):
        raise RuntimeError(
            "LossBalance differentiates the graph once a term, but a compiled network gives its buffers away in the "
            "first backward pass; set `torch._functorch.config.donated_buffer = False` before fit, or measure without "
            "torch.compile"
        )
