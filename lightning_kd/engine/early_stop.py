"""End a teacher's forward pass once everything that is asked of it has been captured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.network import layers_of
from lightning_kd.engine.taps import Recorder, Tap


class _Complete(BaseException):
    """Leaves the forward pass. Not an ``Exception``: the network's own code must not swallow it."""


class EarlyStop:
    """Stops a recorded network after its last tap, so that later stages and the head are not computed.

    The first call runs to its end and counts how often each tapped layer is called. A layer that is called several
    times in one forward pass, as a shared activation is, keeps what it gave last; then nothing is ever stopped.

    Args:
        recorder: the installed recorder of the network; not compiled.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._calls: Counter[nn.Module] = Counter()
        self._layers = 0
        self._stops: bool | None = None
        self._running = False

    def install(self, patches: Patches) -> None:
        """Install hooks behind those of the recorder; undoing ``patches`` removes them."""
        layers = layers_of(self.recorder.network.module)
        tapped: dict[nn.Module, list[Tap]] = {}
        for tap in self.recorder.taps:
            tapped.setdefault(layers[tap.layer], []).append(tap)
        self._layers = len(tapped)
        for layer, taps in tapped.items():
            if all("input" in tap.options for tap in taps):
                patches.on_undo(layer.register_forward_pre_hook(self._make_before(layer, taps)).remove)
            else:
                patches.on_undo(layer.register_forward_hook(self._make_after(layer)).remove)

    def run(self, call: Callable[[], Any]) -> tuple[bool, Any]:
        """Call the network, between the recorder's ``start`` and ``stop``.

        Returns:
            Whether it was stopped, and what it returned unless it was.
        """
        self._calls.clear()
        self._running = True
        try:
            output = call()
        except _Complete:
            return True, None
        finally:
            self._running = False
        if self._stops is None:
            self._stops = len(self._calls) == self._layers and set(self._calls.values()) == {1}
        return False, output

    def _make_before(self, layer: nn.Module, taps: list[Tap]) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            if self._counts(module, layer):
                for tap in taps:
                    self.recorder.capture_input(tap, args)
                self._count(layer)

        return before

    def _make_after(self, layer: nn.Module) -> Callable[..., None]:
        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._counts(module, layer):
                self._count(layer)

        return after

    def _counts(self, module: nn.Module, layer: nn.Module) -> bool:
        # a copy of the network carries the hook along, and may run in the same step
        return self._running and module is layer

    def _count(self, layer: nn.Module) -> None:
        self._calls[layer] += 1
        if self._stops and len(self._calls) == self._layers:
            raise _Complete
