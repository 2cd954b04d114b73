"""Run the student with other weights: neither its buffers nor its random state notice."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning as L
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.func import functional_call

from lightning_kd.callbacks.fusion.batches import seeded
from lightning_kd.callbacks.fusion.step import distillation_losses, task_losses
from lightning_kd.engine.dry_run import Inputs
from lightning_kd.engine.engine import Engine
from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.engine.network import STATE_NAME


class VirtualStudent:
    """The student's network as a function of its parameters.

    It runs in the student's own mode (BatchNorm uses the batch, dropout drops) but on copies of the buffers, outside of
    autocast in the dtype of its weights, and eagerly.

    Args:
        engine: the attached engine.
        exchange: the step, whose ``run_student`` is used.
        seed: seed of dropout; every run draws the same numbers.
    """

    def __init__(self, engine: Engine, exchange: Exchange, seed: int) -> None:
        assert engine.network is not None
        assert exchange.run_student is not None
        self._engine, self._exchange, self._seed = engine, exchange, seed
        self._compiled = engine.network.compiled
        self._caller = _Caller(engine.network.module, exchange.run_student)
        self._fixed = {name: value.detach() for name, value in self._caller.named_parameters()}
        first = next(value for value in self._fixed.values() if value.is_floating_point())
        self._dtype, self._device = first.dtype, first.device

    def parameters(self, rates: Mapping[str, float]) -> dict[str, Tensor]:
        """The parameters that have a learning rate, without history."""
        return {name: self._fixed[name] for name in rates}

    def run(self, parameters: Mapping[str, Tensor], inputs: Inputs) -> View:
        """Run the network on ``inputs``; parameters that are not given stay as they are, without gradients."""
        args, kwargs = apply_to_collection(inputs, Tensor, self._cast)
        buffers = {name: value.clone() for name, value in self._caller.named_buffers()}
        with (
            seeded(self._seed),
            torch.enable_grad(),
            torch.autocast(self._device.type, enabled=False),
            eager() if self._compiled else contextlib.nullcontext(),
        ):
            view: View = functional_call(self._caller, {**self._fixed, **buffers, **parameters}, args, kwargs)
        return view

    def losses(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Distillation and task losses of the training batch, each ``(B,)``."""
        exchange = self._exchange
        view = self.run(parameters, (exchange.inputs, exchange.kwargs))
        seen = dataclasses.replace(exchange, student=view)
        return distillation_losses(self._engine.methods, seen), task_losses(view.logits, exchange.labels)

    def held_out_loss(self, parameters: Mapping[str, Tensor], inputs: Inputs, labels: Tensor) -> Tensor:
        """Mean cross-entropy of a held-out batch."""
        return task_losses(self.run(parameters, inputs).logits, labels).mean()

    def last_layer(self) -> tuple[str, Tensor, View]:
        """Find the linear layer whose output is the logits, by a run on the training batch.

        Returns:
            The layer's name among the parameters' names, its input ``(B, D)`` and the student's view.

        Raises:
            ValueError: if the logits are not a linear layer's output.
        """
        captured: list[tuple[str, Tensor, Tensor]] = []
        handles = [
            layer.register_forward_hook(_capture_into(captured, name))
            for name, layer in self._caller.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            view = self.run({}, (self._exchange.inputs, self._exchange.kwargs))
        finally:
            for handle in handles:
                handle.remove()
        for name, features, output in reversed(captured):
            if output.shape == view.logits.shape and torch.equal(output, view.logits):
                return name, features.detach(), view
        raise ValueError(
            'unroll="last_layer" needs a student whose logits are the output of an nn.Linear layer, but in '
            f'{type(self._caller.network).__name__} they are not; use unroll="jvp"'
        )

    def _cast(self, value: Tensor) -> Tensor:
        return value.detach().to(self._dtype) if value.is_floating_point() else value


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Run compiled networks without their compiled code, which has no second derivatives."""
    with torch.compiler.set_stance("force_eager"):
        yield


def learning_rates(trainer: L.Trainer, network: nn.Module) -> dict[str, float]:
    """The present learning rate of every trained parameter of ``network``, by its name in :class:`VirtualStudent`.

    Raises:
        ValueError: if no parameter of the network is in an optimizer.
    """
    of_parameter = {
        id(parameter): float(group["lr"])
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    rates = {
        f"network.{name}": of_parameter[id(parameter)]
        for name, parameter in network.named_parameters()
        if id(parameter) in of_parameter and parameter.requires_grad and STATE_NAME not in name.split(".")
    }
    if not rates:
        raise ValueError(
            f"no optimizer holds a parameter of {type(network).__name__}, so there is no student step to look ahead "
            "through for TrilateralGeometry"
        )
    return rates


class _Caller(nn.Module):
    """Calls the engine's ``run_student``, as a module around the network whose weights are swapped."""

    def __init__(self, network: nn.Module, run: Callable[..., View]) -> None:
        super().__init__()
        self.network = network
        self._run = run

    def forward(self, *args: Any, **kwargs: Any) -> View:
        return self._run(*args, **kwargs)


def _capture_into(captured: list[tuple[str, Tensor, Tensor]], name: str) -> Any:
    def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and args[0].dim() == 2 and isinstance(output, Tensor):
            captured.append((name, args[0], output))

    return capture
