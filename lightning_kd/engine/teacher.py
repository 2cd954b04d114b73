"""A frozen teacher, kept outside the module tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.plugins.precision import Precision as PrecisionPlugin
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.early_stop import EarlyStop
from lightning_kd.engine.economy import Economy, Precision
from lightning_kd.engine.exchange import LogitsOf, UnfinishedView, View
from lightning_kd.engine.network import Network, find_network, has_forward, unwrap_compiled
from lightning_kd.engine.taps import Call, Recorder


class TeacherSource(Protocol):
    """Where the teachers' views of training steps come from, in place of the teachers alone."""

    def views(
        self, teachers: Sequence[Teacher], keys: Sequence[str], call: Call, teach: Callable[[Teacher], View]
    ) -> list[View]:
        """One view a teacher.

        Args:
            teachers: the teachers.
            keys: which draws the batch's samples are; see :class:`~lightning_kd.data.IndexedDraw`.
            call: the student's call.
            teach: calls a teacher with the same.
        """
        ...


class Teacher:
    """A network that teaches.

    It is no ``nn.Module`` on purpose: held by a LightningModule it stays out of ``parameters()``, ``state_dict()``,
    checkpoints, DDP and ``train()``. Copying or averaging the student does not copy it.

    Args:
        module: the teacher: an ``nn.Module`` or a LightningModule. A LightningModule is called through its ``forward``
            where it has one, else through its network.
        precision: ``"bf16"`` or ``"fp16"``: a copy with half the memory computes in that type, and what it gives is
            raised to float32; by default the teacher is cast, and runs under autocast, like the student.
        channels_last: lay its convolutions and its images out channels last.
        compile: compile it with ``torch.compile``. Its layers can still be tapped, but it always runs to its end.
        overlap: start it when the student's network is called, on a CUDA stream of its own, in place of after the
            student's ``training_step``. Faster where neither fills the GPU; both need their memory at the same time.

    Raises:
        TypeError: if ``module`` is not an ``nn.Module``.
        ValueError: for an unknown precision, or where one is asked of a teacher that trains along.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        precision: Precision | None = None,
        channels_last: bool = False,
        compile: bool = False,
        overlap: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            hint = " (a class; instantiate it first)" if isinstance(module, type) else ""
            raise TypeError(
                f"a teacher must be an nn.Module or a LightningModule, got {type(module).__name__}{hint}: {module!r}"
            )
        self.economy = Economy(precision, channels_last, compile)
        self.module = self.economy.prepare(module)
        self.network = _network_of(self.module)
        self.overlap = overlap
        self.recorder: Recorder | None = None
        self._early_stop: EarlyStop | None = None

    @property
    def entry(self) -> Callable[..., Any]:
        """What is called with the student's inputs."""
        headless = isinstance(self.module, L.LightningModule) and not has_forward(self.module)
        return self.economy.wrap(self.network.module if headless else self.module)

    def convert(self, plugin: PrecisionPlugin) -> None:
        """Cast it like the student, unless it has a precision of its own."""
        if self.economy.precision is None:
            plugin.convert_module(self.module)

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

    def install(
        self, taps: Iterable[str], patches: Patches, *, trains: bool = False, may_end_early: bool = False
    ) -> None:
        """Install the taps.

        Args:
            taps: names of the layers to capture.
            patches: undoing them removes the taps.
            trains: whether the teacher trains along.
            may_end_early: prepare for :meth:`features_view`.

        Raises:
            ValueError: for a tap that names no layer.
        """
        self.recorder = Recorder(self.network, taps, with_grad=trains)
        self.recorder.install(patches)
        if may_end_early and self.recorder.taps and _can_be_left(self.network):
            self._early_stop = EarlyStop(self.recorder)
            self._early_stop.install(patches)
        patches.on_undo(self._forget)

    def features_view(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None = None) -> View:
        """Run the frozen teacher as far as its last tap, where it can be left there."""
        early_stop, recorder = self._early_stop, self.recorder
        if early_stop is None or recorder is None:
            return self.view(args, kwargs, logits_of)
        recorder.start()
        try:
            with self._frozen():
                left, output = early_stop.run(lambda: self.entry(*args, **kwargs))
        finally:
            recorder.stop()
        if left:
            return UnfinishedView(self._restored(recorder.take_unfinished()))
        return View(output, self._taken(recorder), logits_of)

    def view(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None = None) -> View:
        """Run the frozen teacher, without gradients.

        ``no_grad`` rather than ``inference_mode``: inference tensors cannot take part in a student's graph.
        """
        with self._frozen():
            return self._run(lambda: self.entry(*args, **kwargs), logits_of)

    def peer_view(self, args: tuple[Any, ...], kwargs: dict[str, Any], logits_of: LogitsOf | None = None) -> View:
        """Run a teacher that trains along, with gradients and in its own mode."""
        return self._run(lambda: self.entry(*args, **kwargs), logits_of)

    def _frozen(self) -> torch.no_grad:
        if self.module.training:
            self.module.eval()
        return torch.no_grad()

    def _run(self, call: Callable[[], Any], logits_of: LogitsOf | None) -> View:
        if self.recorder is None:
            return View(call(), None, logits_of)
        self.recorder.start()
        try:
            output = call()
        finally:
            self.recorder.stop()
        return View(output, self._taken(self.recorder), logits_of)

    def _taken(self, recorder: Recorder) -> dict[str, Tensor]:
        calls = recorder.take()
        return self._restored(calls[-1].features) if calls else {}

    def _restored(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.economy.restore(value) for name, value in features.items()}

    def _forget(self) -> None:
        self.recorder = self._early_stop = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def __repr__(self) -> str:
        return f"Teacher({type(self.module).__name__})"


def _can_be_left(network: Network) -> bool:
    """Whether a forward pass may end early: not inside a compiled graph, nor before sharded layers are put back."""
    return not network.compiled and not any(isinstance(parameter, DTensor) for parameter in network.module.parameters())


def _network_of(module: nn.Module) -> Network:
    try:
        return find_network(module)
    except ValueError:
        # a LightningModule of several parts: its layers are named from its own root
        return Network("", unwrap_compiled(module), compiled=False)
