"""Taps: named layers whose output is captured, and the recorder of a network's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.names import nearest
from lightning_kd.engine.network import Network, layers_of

_OPTIONS = {"input", "clone", "nhwc"}


@dataclass(frozen=True)
class Tap:
    """A parsed tap name.

    ``"layer3"`` captures a layer's output; options follow after colons: ``"fc:input"`` captures its first input,
    ``"bn1:clone"`` copies the tensor (needed where the next layer works in place), ``"features.1:nhwc"`` permutes a
    channels-last map ``(B, H, W, C)`` to ``(B, C, H, W)``.
    """

    name: str
    layer: str
    options: frozenset[str]

    @classmethod
    def parse(cls, name: str) -> Tap:
        """Split a tap name into the layer's name and its options.

        Raises:
            ValueError: for an unknown option.
        """
        layer, *options = name.split(":")
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ValueError(
                f"unknown option {sorted(unknown)[0]!r} in the tap {name!r}; the options are {sorted(_OPTIONS)}, "
                "written after the layer's name, for example 'fc:input'"
            )
        return cls(name, layer, frozenset(options))

    def read(self, args: tuple[Any, ...], output: Any) -> Tensor:
        """Take the tapped tensor from a layer's call."""
        value = first_tensor(args if "input" in self.options else output, self.name)
        if "nhwc" in self.options:
            value = value.permute(0, 3, 1, 2)
        return value.clone() if "clone" in self.options else value


@dataclass
class Call:
    """One captured call of the network."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    features: dict[str, Tensor]
    versions: dict[str, int] = field(default_factory=dict)


class Recorder:
    """Captures the calls of one network and the taps inside it.

    Hook bodies hold nothing that ``torch.compile`` cannot trace: no counters, no exceptions, only stores.

    Args:
        network: the located network.
        taps: tap names.
        with_grad: record only calls with autograd on (the student's), so that a stray ``no_grad`` call and the first
            pass of re-entrant activation checkpointing do not count.

    Attributes:
        before_call: told of every call that is about to be recorded, unless the network is compiled.

    Raises:
        ValueError: for a tap that names no layer; the message lists the nearest names.
    """

    def __init__(self, network: Network, taps: Iterable[str], *, with_grad: bool) -> None:
        self.network = network
        self.taps = [Tap.parse(name) for name in dict.fromkeys(taps)]
        self.with_grad = with_grad
        self.active = False
        self.calls: list[Call] = []
        self.before_call: Callable[[tuple[Any, ...], dict[str, Any]], None] | None = None
        self._features: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        check_taps(network.module, self.taps)

    def install(self, patches: Patches) -> None:
        """Install the hooks; undoing ``patches`` removes them."""
        layers = layers_of(self.network.module)
        for tap in self.taps:
            self._tap(layers[tap.layer], tap, patches)
        if self.network.compiled:
            hook = self.network.module.register_forward_hook(self._make_call_hook(), with_kwargs=True)
            patches.on_undo(hook.remove)
        else:
            patches.replace(self.network.module, "forward", self._make_forward)

    def start(self) -> None:
        """Begin to record."""
        self.active = True
        self.calls.clear()
        self._features.clear()

    def stop(self) -> None:
        """Record no more; captured calls stay until taken."""
        self.active = False

    def take(self) -> list[Call]:
        """Hand out the captured calls and forget them.

        Raises:
            RuntimeError: if a tapped tensor was changed in place after it was captured.
        """
        calls, self.calls = self.calls, []
        self._features.clear()
        _refuse_changed(calls)
        return calls

    def capture_input(self, tap: Tap, args: tuple[Any, ...]) -> None:
        """Capture a layer's input before the layer runs.

        Args:
            tap: one with the option ``input``.
            args: what the layer is about to be called with.
        """
        value = self._features[tap.name] = tap.read(args, None)
        self._versions[tap.name] = value._version

    def take_unfinished(self) -> dict[str, Tensor]:
        """Hand out the taps of a call that was left before its end, and forget them.

        Raises:
            RuntimeError: if a tapped tensor was changed in place after it was captured.
        """
        call = Call((), {}, None, dict(self._features), dict(self._versions))
        self._features.clear()
        self._versions.clear()
        _refuse_changed([call])
        return call.features

    def _records(self) -> bool:
        return self.active and (torch.is_grad_enabled() or not self.with_grad)

    def _tap(self, layer: nn.Module, tap: Tap, patches: Patches) -> None:
        features, versions, compiled = self._features, self._versions, self.network.compiled

        def capture(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # a copy of the network carries the hook along, and may run in the same step
            if module is layer and self._records():
                value = tap.read(args, output)
                features[tap.name] = value
                if not compiled and not torch.compiler.is_compiling():
                    versions[tap.name] = value._version

        patches.on_undo(layer.register_forward_hook(capture).remove)

    def _make_call_hook(self) -> Any:
        features = self._features

        def capture(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._records():
                self.calls.append(Call(args, kwargs, output, dict(features)))
                features.clear()

        return capture

    def _make_forward(self, original: Any) -> Any:
        features, versions = self._features, self._versions

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.before_call is not None and self._records():
                self.before_call(args, kwargs)
            output = original(*args, **kwargs)
            if self._records():
                self.calls.append(Call(args, kwargs, output, dict(features), dict(versions)))
                features.clear()
                versions.clear()
            return output

        return forward

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        """Weight averaging copies the whole module, hooks included: the copy must not drag teachers along."""
        return self


def _refuse_changed(calls: Iterable[Call]) -> None:
    for call in calls:
        for name, version in call.versions.items():
            if call.features[name]._version != version:
                raise RuntimeError(
                    f"the output of the tap {name!r} was changed in place by a later layer (an in-place ReLU, most "
                    f"likely), so it no longer holds what that layer computed; tap {name + ':clone'!r} to keep a copy, "
                    "or tap the later layer"
                )


def check_taps(network: nn.Module, taps: Iterable[Tap]) -> None:
    """Raise ``ValueError`` for a tap that names no layer of ``network``."""
    layers = layers_of(network)
    for tap in taps:
        if tap.layer not in layers:
            raise ValueError(
                f"unknown layer {tap.layer!r} in {type(network).__name__}; the nearest are "
                f"{nearest(tap.layer, layers)} (see `dict(model.named_modules())`)"
            )


def first_tensor(value: Any, name: str) -> Tensor:
    """The tensor itself, or the first one in a tuple or list.

    Raises:
        TypeError: if there is none.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list):
        for item in value:
            if isinstance(item, Tensor):
                return item
    raise TypeError(
        f"the tap {name!r} captured a {type(value).__name__}, not a tensor; tap a layer that returns a tensor, or one "
        "of its sub-layers"
    )
