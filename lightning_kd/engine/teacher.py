"""A frozen teacher, kept outside the module tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.exchange import LogitsOf, View
from lightning_kd.engine.network import Network, find_network, has_forward, unwrap_compiled
from lightning_kd.engine.taps import Recorder


class Teacher:
    """A network that teaches.

    It is no ``nn.Module`` on purpose: held by a LightningModule it stays out of ``parameters()``, ``state_dict()``,
    checkpoints, DDP and ``train()``. Copying or averaging the student does not copy it.

    Args:
        module: the teacher: an ``nn.Module`` or a LightningModule. A LightningModule is called through its ``forward``
            where it has one, else through its network.

    Raises:
        TypeError: if ``module`` is not an ``nn.Module``.
    """

    def __init__(self, module: nn.Module) -> None:
        if not isinstance(module, nn.Module):
            hint = " (a class; instantiate it first)" if isinstance(module, type) else ""
            raise TypeError(
                f"a teacher must be an nn.Module or a LightningModule, got {type(module).__name__}{hint}: {module!r}"
            )
        self.module = module
        self.network = _network_of(module)
        self.recorder: Recorder | None = None

    @property
    def entry(self) -> Callable[..., Any]:
        """What is called with the student's inputs."""
        if isinstance(self.module, L.LightningModule) and not has_forward(self.module):
            return self.network.module
        return self.module

    def freeze(self, patches: Patches) -> None:
        """Switch off gradients and training mode; undoing ``patches`` gives the user's settings back."""
        gradients = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        modes = [(module, module.training) for module in self.module.modules()]

        def thaw() -> None:
            for parameter, requires_grad in gradients:
                parameter.requires_grad_(requires_grad)
            for module, mode in modes:
                module.training = mode

        patches.on_undo(thaw)
        self.module.requires_grad_(False)
        self.module.eval()

    def install(self, taps: Iterable[str], patches: Patches, *, trains: bool = False) -> None:
        """Install the taps.

        Raises:
            ValueError: for a tap that names no layer.
        """
        self.recorder = Recorder(self.network, taps, with_grad=trains)
        self.recorder.install(patches)
        patches.on_undo(self._forget)

    def view(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None = None) -> View:
        """Run the frozen teacher, without gradients.

        ``no_grad`` rather than ``inference_mode``: inference tensors cannot take part in a student's graph.
        """
        if self.module.training:
            self.module.eval()
        with torch.no_grad():
            return self._run(args, kwargs, logits_of)

    def peer_view(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None = None) -> View:
        """Run a teacher that trains along, with gradients and in its own mode."""
        return self._run(args, kwargs, logits_of)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None) -> View:
        if self.recorder is None:
            return View(self.entry(*args, **kwargs), None, logits_of)
        self.recorder.start()
        try:
            output = self.entry(*args, **kwargs)
        finally:
            self.recorder.stop()
        calls = self.recorder.take()
        features = calls[-1].features if calls else {}
        return View(output, features, logits_of)

    def _forget(self) -> None:
        self.recorder = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def __repr__(self) -> str:
        return f"Teacher({type(self.module).__name__})"


def _network_of(module: nn.Module) -> Network:
    try:
        return find_network(module)
    except ValueError:
        # a LightningModule of several parts: its layers are named from its own root
        return Network("", unwrap_compiled(module), compiled=False)
