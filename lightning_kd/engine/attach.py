"""Patch attributes of one instance, and undo it without a trace."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patches:
    """A stack of replaced instance attributes and of other things to undo."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def replace(self, instance: Any, name: str, make: Callable[[Any], Any], *, transparent: bool = True) -> None:
        """Shadow ``instance.name`` with ``make(original)``.

        Args:
            instance: the object to patch; its class stays as it is.
            name: attribute to shadow.
            make: gets the present attribute, returns the function to call instead.
            transparent: let Lightning see the original's signature through ``__wrapped__``. It peels one level only,
                so a wrapper of a compiled function must point at the innermost one.
        """
        original = getattr(instance, name)
        shadowed = vars(instance).get(name, _ABSENT)
        replacement = _Patched(instance, name, shadowed, make(original))
        if transparent:
            replacement.__wrapped__ = inspect.unwrap(original)
        object.__setattr__(instance, name, replacement)
        self._undo.append(lambda: _restore(instance, name, shadowed))

    def on_undo(self, action: Callable[[], object]) -> None:
        """Run ``action`` when the patches are undone."""
        self._undo.append(action)

    def undo(self) -> None:
        """Undo everything, last first; harmless when there is nothing to undo."""
        while self._undo:
            self._undo.pop()()

    def __deepcopy__(self, memo: dict[int, Any]) -> Patches:
        """A copy of a patched object owns no patches: undoing them is the original's affair."""
        return Patches()


class _Patched:
    """A function in place of a method. A deep copy of the instance gets its own, unpatched method back."""

    __wrapped__: Any

    def __init__(self, instance: Any, name: str, shadowed: Any, function: Callable[..., Any]) -> None:
        self._instance, self._name, self._shadowed, self._function = instance, name, shadowed, function
        self.__code__ = getattr(function, "__code__", None)  # Lightning compares it to see what is overridden

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._shadowed is not _ABSENT:
            return copy.deepcopy(self._shadowed, memo)
        copied = memo.get(id(self._instance), self._instance)
        return getattr(type(copied), self._name).__get__(copied)


def _restore(instance: Any, name: str, shadowed: Any) -> None:
    if shadowed is not _ABSENT:
        object.__setattr__(instance, name, shadowed)
    elif name in vars(instance):
        object.__delattr__(instance, name)
