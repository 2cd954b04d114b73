"""Objects that a protocol names by class and parameters: their construction and what the results say of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kd_bench.errors import UserError
from kd_bench.storage import file_sha256

T = TypeVar("T")


def create(make: Callable[..., T], parameters: Mapping[str, Any], name: str) -> T:
    """Call a constructor.

    Args:
        make: the class.
        parameters: its arguments.
        name: what the protocol calls it, for the error.

    Raises:
        UserError: if it does not take the parameters.
    """
    try:
        return make(**parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} does not take the parameters {dict(parameters)}: {error}") from error


def resolve_parameters(make: Callable[..., Any], parameters: Mapping[str, Any], name: str) -> dict[str, Any]:
    """All constructor arguments, so that a later change of a default does not rewrite history.

    Raises:
        UserError: if one cannot be written as JSON.
    """
    try:
        bound = inspect.signature(make).bind(**parameters)
        bound.apply_defaults()
        plain: dict[str, Any] = json.loads(json.dumps(bound.arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"the parameters of {name} cannot be recorded: {error}") from error
    return plain


def dotted_path(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def source_sha256(cls: type) -> str:
    """Hash of the one file that defines a class."""
    return file_sha256(Path(inspect.getfile(cls)))
