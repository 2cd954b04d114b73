"""Where the labels are in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Target = int | str | Callable[[Any], Any]
"""An index into the batch, a key (or attribute) of it, or a callable from batch to labels."""

_KEYS = ("label", "labels", "target", "targets", "y")


def find_target(batch: Any, target: Target | None = None) -> Any:
    """Find the labels in ``batch``.

    Args:
        batch: a batch as the student's ``training_step`` receives it.
        target: index, key or callable; by default ``(x, y, ...)`` and the keys ``label``, ``labels``, ``target``,
            ``targets`` and ``y`` are understood.

    Returns:
        The labels, or ``None`` if no default rule applies.

    Raises:
        KeyError: if ``target`` was given and is not in the batch.

    >>> find_target({"image": 0, "label": 3})
    3
    """
    if target is None:
        return _by_default(batch)
    if callable(target):
        return target(batch)
    try:
        if isinstance(target, str) and not isinstance(batch, Mapping):
            return getattr(batch, target)
        return batch[target]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise KeyError(
            f"target={target!r} is not in the batch, which is {_describe(batch)}; give an index, a key or a callable "
            "that takes the batch and returns the labels"
        ) from None


def _by_default(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[key] for key in _KEYS if key in batch), None)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return batch[1] if len(batch) > 1 else None
    return None


def _describe(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a mapping with the keys {sorted(map(str, batch))}"
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return f"a {type(batch).__name__} of length {len(batch)}"
    return f"of type {type(batch).__name__}"
