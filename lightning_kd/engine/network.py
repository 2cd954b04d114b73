"""Which sub-module of a LightningModule is the network that is distilled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import nn
from torchmetrics import Metric, MetricCollection

from lightning_kd.engine.names import nearest

STATE_NAME = "_kd"
"""Name under which the methods' trainable parts are registered on the LightningModule."""


@dataclass(frozen=True)
class Network:
    """A located network.

    Attributes:
        path: dotted name inside the LightningModule, ``""`` for the LightningModule itself.
        module: the network, without a ``torch.compile`` wrapper.
        compiled: whether calls of it are traced by ``torch.compile``.
    """

    path: str
    module: nn.Module
    compiled: bool

    def run_eagerly(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network without ``torch.compile``, for a look at its layers."""
        return (self.module.forward if self.compiled else self.module)(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, object]) -> Network:
        """Copies of a patched LightningModule keep pointing at the original network."""
        return self


def has_forward(module: L.LightningModule) -> bool:
    """Whether a LightningModule defines a ``forward`` of its own."""
    return type(module).forward is not L.LightningModule.forward


def unwrap_compiled(module: nn.Module) -> nn.Module:
    """Return the module inside a ``torch.compile`` wrapper, or the module itself."""
    inner = getattr(module, "_orig_mod", module)
    return inner if isinstance(inner, nn.Module) else module


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """Every layer of ``network`` by dotted name, with ``torch.compile`` wrappers left out of the names."""
    return {
        ".".join(part for part in name.split(".") if part != "_orig_mod"): unwrap_compiled(module)
        for name, module in network.named_modules()
        if not name.endswith("_orig_mod")
    }


def find_network(module: nn.Module, network: str | None = None) -> Network:
    """Find the network of ``module`` whose calls are distilled.

    Args:
        module: usually a LightningModule. A plain ``nn.Module`` is its own network.
        network: dotted name of the sub-module; by default the only child with parameters, or the module itself when
            it has several and overrides ``forward``.

    Returns:
        The located network.

    Raises:
        ValueError: if the name is unknown, or nothing was named and there is no single candidate.
    """
    compiled = getattr(module, "_compiler_ctx", None) is not None
    if network is not None:
        layers = dict(module.named_modules())
        if network not in layers:
            raise ValueError(
                f"network={network!r} is not a sub-module of {type(module).__name__}; the nearest are "
                f"{nearest(network, layers)}"
            )
        return _locate(network, layers[network], compiled)
    if not isinstance(module, L.LightningModule):
        return _locate("", module, compiled)
    candidates = _candidates(module)
    if len(candidates) == 1:
        path, child = next(iter(candidates.items()))
        return _locate(path, child, compiled)
    if has_forward(module):
        return _locate("", module, compiled)
    found = ", ".join(repr(name) for name in candidates) or "none"
    raise ValueError(
        f"cannot tell which sub-module of {type(module).__name__} is the network to distil (candidates with "
        f'parameters: {found}); pass `network="name"`, or give the LightningModule a `forward` and call it in '
        "`training_step`"
    )


def _locate(path: str, module: nn.Module, compiled: bool) -> Network:
    inner = unwrap_compiled(module)
    in_place = getattr(inner, "_compiled_call_impl", None) is not None
    return Network(path, inner, compiled or inner is not module or in_place)


def _candidates(module: nn.Module) -> dict[str, nn.Module]:
    return {
        name: child
        for name, child in module.named_children()
        if name != STATE_NAME
        and not isinstance(child, Metric | MetricCollection)
        and any(isinstance(parameter, torch.Tensor) for parameter in child.parameters())
    }
