"""Whether the whole state of an object can be seen, and what it is."""

from __future__ import annotations

from collections import deque
from typing import Any

_SEEN = (object, list, tuple, deque, set, frozenset, dict)
"""Built-in classes without hidden state: their items are looked at."""

_WRITTEN_IN_PYTHON = ("__slots__", "__dict__", "__weakref__")
_HEAP_TYPE = 1 << 9


def is_open(cls: type) -> bool:
    """Whether all state of a class's instances is in their ``__dict__`` and slots, and none of it hidden in C."""
    return all(
        base in _SEEN or any(name in vars(base) for name in _WRITTEN_IN_PYTHON) or _adds_nothing(base)
        for base in cls.__mro__
    )


def state_of(value: Any) -> dict[str, Any]:
    """Attributes and slots of an object.

    Args:
        value: an object whose class :func:`is_open`.
    """
    state: dict[str, Any] = {}
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            mangled = f"_{cls.__name__.lstrip('_')}{name}" if private else name
            if name not in ("__dict__", "__weakref__") and hasattr(value, mangled):
                state[mangled] = getattr(value, mangled)
    state.update(getattr(value, "__dict__", {}))
    return {str(name): item for name, item in state.items()}


def _adds_nothing(cls: type) -> bool:
    """Whether a class written in Python leaves dictionary and weak references to the class it derives from."""
    base = cls.__base__
    return bool(cls.__flags__ & _HEAP_TYPE) and base is not None and cls.__basicsize__ == base.__basicsize__
