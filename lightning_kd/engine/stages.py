"""Which layers of a network are worth comparing: its stages and its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lightning_kd.engine.dry_run import quiet
from lightning_kd.engine.network import layers_of

_TOKEN_STAGES = 4
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass
class Anatomy:
    """What a dry run found.

    Attributes:
        stages: tap names of the stage outputs, shallowest first.
        penultimate: tap name of the classifier's input, or ``None``.
        classifier: name of the classifier layer, or ``None``.
        last_map: tap name of the last map ``(B, C, H, W)``, from which the pooled features are made: the last stage, or
            a normalization or activation after it; ``None`` if there is none.
        output: what the network returned.
    """

    stages: list[str] = field(default_factory=list)
    penultimate: str | None = None
    classifier: str | None = None
    last_map: str | None = None
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
        stages=_stages(network, events),
        penultimate=f"{classifier}:input" if classifier else None,
        classifier=classifier,
        last_map=_last_map(events),
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


def _stages(network: nn.Module, events: list[_Event]) -> list[str]:
    declared = _declared(network, events)
    if declared:
        return declared
    spatial, tokens = _spatial_stages(events), _token_stages(events)
    return spatial if len(spatial) > 1 or not tokens else tokens


def _declared(network: nn.Module, events: list[_Event]) -> list[str]:
    named = {event.name: event for event in events}
    declared = getattr(network, "distillation_stages", None)
    if declared:
        return [str(name) for name in declared]
    info = getattr(network, "feature_info", None)
    entries = getattr(info, "info", info)
    if not isinstance(entries, list):
        return []
    names = [str(entry["module"]) for entry in entries if isinstance(entry, Mapping) and "module" in entry]
    found = [named[name] for name in names if name in named and _is_container(named[name].module)]
    if len(found) < 2:
        return []
    if all(event.output.dim() == 3 for event in found):
        return _evenly([event.name for event in found])
    return [_with_layout(event) for event in found]


def _classifier(events: list[_Event]) -> str | None:
    for event in reversed(events):
        if isinstance(event.module, nn.Linear | nn.Conv2d):
            return event.name
    return None


def _last_map(events: list[_Event]) -> str | None:
    maps = [event for event in _main_path(events) if event.output.dim() == 4 and _size(event) != (1, 1)]
    unpooled = [event for event in maps if not isinstance(event.module, _POOLS)]
    return _with_layout(unpooled[-1]) if unpooled else None


def _spatial_stages(events: list[_Event]) -> list[str]:
    """The last module at each spatial size along the network's main path."""
    maps = [event for event in _main_path(events) if event.output.dim() == 4 and _size(event) != (1, 1)]
    containers = [event for event in maps if _is_container(event.module)]
    leaves = [event for event in maps if not isinstance(event.module, _POOLS)]
    last: dict[tuple[int, int], _Event] = {}
    for event in containers or leaves:
        last.pop(_size(event), None)
        last[_size(event)] = event
    return [_with_layout(event) for event in last.values()]


def _main_path(events: list[_Event]) -> list[_Event]:
    """The modules that the root calls, with those opened up whose own parts work at several sizes (a whole body)."""
    called = {event.name for event in events}
    path = []
    for event in (event for event in events if not _caller(event.name, called)):
        path.extend(_open(event, events, called))
    return path


def _open(event: _Event, events: list[_Event], called: set[str]) -> list[_Event]:
    parts = [part for part in events if part.name != event.name and _caller(part.name, called) == event.name]
    sizes = {_size(part) for part in parts if part.output.dim() == 4}
    if len(sizes) < 2:
        return [event]
    return [inner for part in parts for inner in _open(part, events, called)]


def _caller(name: str, called: set[str]) -> str:
    """The nearest enclosing module that was itself called (a ModuleList never is), or ``""`` for the root."""
    while name:
        name = name.rpartition(".")[0]
        if name in called:
            return name
    return ""


def _is_container(module: nn.Module) -> bool:
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _size(event: _Event) -> tuple[int, int]:
    shape = event.output.shape
    height, width = shape[1:3] if _is_channels_last(event) else shape[2:4]
    return int(height), int(width)


def _is_channels_last(event: _Event) -> bool:
    """Whether a map is ``(B, H, W, C)``: the square pair of axes tells, or else what kind of layers made it."""
    _, first, second, third = event.output.shape
    if (first == second) != (second == third):
        return first == second
    layers = list(event.module.modules())
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return False
    return any(isinstance(layer, nn.Linear) and third in (layer.out_features, layer.in_features) for layer in layers)


def _with_layout(event: _Event) -> str:
    return f"{event.name}:nhwc" if event.output.dim() == 4 and _is_channels_last(event) else event.name


def _token_stages(events: list[_Event]) -> list[str]:
    blocks: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for event in events:
        parent, _, _ = event.name.rpartition(".")
        if event.output.dim() == 3 and parent and _is_container(event.module):
            blocks.setdefault((parent, type(event.module)), []).append(event.name)
    longest = max(blocks.values(), key=len, default=[])
    return _evenly(longest) if len(longest) > 1 else []


def _evenly(names: list[str]) -> list[str]:
    count = min(_TOKEN_STAGES, len(names))
    return [names[round((index + 1) * len(names) / count) - 1] for index in range(count)]
