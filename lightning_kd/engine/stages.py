"""Which layers of a network are worth comparing: its stages and its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lightning_kd.engine.dry_run import quiet
from lightning_kd.engine.network import layers_of

_TOKEN_STAGES = 4


@dataclass
class Anatomy:
    """What a dry run found.

    Attributes:
        stages: tap names of the stage outputs, shallowest first.
        penultimate: tap name of the classifier's input, or ``None``.
        classifier: name of the classifier layer, or ``None``.
        output: what the network returned.
    """

    stages: list[str] = field(default_factory=list)
    penultimate: str | None = None
    classifier: str | None = None
    output: Any = None


@dataclass(frozen=True)
class _Event:
    name: str
    module: nn.Module
    output: Tensor


def anatomy(network: nn.Module, run: Callable[[], Any]) -> Anatomy:
    """Run ``network`` once and find its stages and its classifier.

    Stages come, in this order, from the network itself (an attribute ``distillation_stages`` with layer names), from
    timm's ``feature_info``, or from the run: the last module at each spatial size, or, for token networks, four
    evenly spaced blocks.

    Args:
        network: the network to look at.
        run: calls it (through a teacher's or student's own entry point).
    """
    events: list[_Event] = []
    handles = [
        module.register_forward_hook(_record(events, name)) for name, module in layers_of(network).items() if name
    ]
    try:
        with quiet(network):
            output = run()
    finally:
        for handle in handles:
            handle.remove()
    classifier = _classifier(events)
    return Anatomy(
        stages=_declared(network) or _spatial_stages(events) or _token_stages(events),
        penultimate=f"{classifier}:input" if classifier else None,
        classifier=classifier,
        output=output,
    )


def align(student: Sequence[str], teacher: Sequence[str]) -> list[tuple[str, str]]:
    """Pair stages by position, from the deepest upwards; the shallowest of the longer list stay unpaired.

    >>> align(["layer1", "layer2"], ["stem", "block1", "block2"])
    [('layer1', 'block1'), ('layer2', 'block2')]
    """
    depth = min(len(student), len(teacher))
    return list(zip(student[len(student) - depth :], teacher[len(teacher) - depth :], strict=True))


def _record(events: list[_Event], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            events.append(_Event(name, module, output))

    return hook


def _declared(network: nn.Module) -> list[str]:
    layers = layers_of(network)
    declared = getattr(network, "distillation_stages", None)
    if declared:
        return [str(name) for name in declared]
    info = getattr(network, "feature_info", None)
    entries = getattr(info, "info", info)
    if not isinstance(entries, list):
        return []
    names = [str(entry["module"]) for entry in entries if isinstance(entry, Mapping) and "module" in entry]
    known = [name for name in names if name in layers and any(True for _ in layers[name].children())]
    return known if len(known) > 1 else []


def _classifier(events: list[_Event]) -> str | None:
    for event in reversed(events):
        if isinstance(event.module, nn.Linear | nn.Conv2d):
            return event.name
    return None


def _is_container(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _spatial_stages(events: list[_Event]) -> list[str]:
    maps = [event for event in events if event.output.dim() == 4 and event.output.shape[2:].numel() > 1]
    containers = [event for event in maps if _is_container(event.module)]
    last: dict[tuple[int, ...], _Event] = {}
    for event in containers or maps:
        size = _spatial_size(event)
        last.pop(size, None)
        last[size] = event
    chosen = list(last.values())
    return [_with_layout(_innermost(event, events, chosen)) for event in chosen]


def _innermost(event: _Event, events: list[_Event], chosen: list[_Event]) -> _Event:
    """Step down from a module that wraps other stages to the part that returned the same tensor."""
    while any(other is not event and other.name.startswith(event.name + ".") for other in chosen):
        inner = [
            candidate
            for candidate in events
            if candidate.name.startswith(event.name + ".") and candidate.output is event.output
        ]
        if not inner:
            break
        event = min(inner, key=lambda candidate: candidate.name.count("."))
    return event


def _spatial_size(event: _Event) -> tuple[int, ...]:
    shape = event.output.shape
    return tuple(shape[1:3] if _is_channels_last(event) else shape[2:])


def _is_channels_last(event: _Event) -> bool:
    """Whether a map is ``(B, H, W, C)``: it comes from linear layers and norms over the last axis, not convolutions."""
    width = event.output.shape[-1]
    kinds = list(event.module.modules())
    if any(isinstance(module, nn.Conv2d) for module in kinds):
        return False
    return any(isinstance(module, nn.Linear) and width in (module.out_features, module.in_features) for module in kinds)


def _with_layout(event: _Event) -> str:
    return f"{event.name}:nhwc" if _is_channels_last(event) else event.name


def _token_stages(events: list[_Event]) -> list[str]:
    blocks: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for event in events:
        parent, _, _ = event.name.rpartition(".")
        if event.output.dim() == 3 and parent and _is_container(event.module):
            blocks.setdefault((parent, type(event.module)), []).append(event.name)
    longest = max(blocks.values(), key=len, default=[])
    if len(longest) < 2:
        return []
    count = min(_TOKEN_STAGES, len(longest))
    return [longest[round((index + 1) * len(longest) / count) - 1] for index in range(count)]
