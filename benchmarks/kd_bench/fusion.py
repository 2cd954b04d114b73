"""From a row's ``fusion`` to the strategy: its class, its instance, and its description for the results."""

from __future__ import annotations

import inspect
from typing import Any

from torch.utils.data import DataLoader

from kd_bench.construct import create, dotted_path, resolve_parameters, source_sha256
from kd_bench.errors import UserError
from kd_bench.names import import_object, unknown
from kd_bench.protocol import FusionSpec
from kd_bench.results import FusionInfo
from lightning_kd import callbacks
from lightning_kd.callbacks import FusionStrategy

_HELD_OUT = "validation"


def create_strategy(spec: FusionSpec, held_out: DataLoader[Any] | None = None) -> FusionStrategy:
    """The strategy of a row.

    Args:
        spec: class and parameters.
        held_out: the samples that ``hold_out`` has taken out of the training split.

    Raises:
        UserError: if there is no such class, it does not take the parameters, or ``hold_out`` is missing or pointless.
    """
    strategy = _strategy_class(spec.class_path)
    learns = _HELD_OUT in inspect.signature(strategy).parameters
    if learns and not spec.hold_out:
        raise UserError(f"{spec.class_path} learns on held-out training samples; give the fusion a hold_out, say 0.1")
    if spec.hold_out and not learns:
        raise UserError(f"{spec.class_path} does not learn on held-out training samples; leave hold_out out")
    given = {_HELD_OUT: held_out} if learns else {}
    return create(strategy, {**spec.parameters, **given}, spec.class_path)


def describe_fusion(spec: FusionSpec) -> FusionInfo:
    """What the results say about the strategy of a row.

    Raises:
        UserError: if there is no such class, or a parameter cannot be written as JSON.
    """
    strategy = _strategy_class(spec.class_path)
    parameters = resolve_parameters(strategy, spec.parameters, spec.class_path)
    parameters.pop(_HELD_OUT, None)
    return FusionInfo(
        class_path=dotted_path(strategy),
        parameters=parameters,
        hold_out=spec.hold_out,
        source_sha256=source_sha256(strategy),
    )


def _strategy_class(path: str) -> type[FusionStrategy]:
    known = {
        name: value
        for name, value in vars(callbacks).items()
        if isinstance(value, type) and issubclass(value, FusionStrategy) and value is not FusionStrategy
    }
    found = import_object(path, "fusion strategy") if "." in path else known.get(path)
    if found is None:
        raise unknown("fusion strategy", path, sorted(known))
    if not (isinstance(found, type) and issubclass(found, FusionStrategy)):
        raise UserError(f"{path!r} is not a fusion strategy; expected a subclass of FusionStrategy.")
    return found
