"""Choosing among known names, with errors that list what there is."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from kd_bench.errors import UserError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Names most like ``name``, best first, ignoring case.

    >>> nearest("dkd", ["KD", "DKD", "FitNet"])
    ['DKD', 'KD']
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    return [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.4)]


def unknown(kind: str, name: object, known: Sequence[object]) -> UserError:
    """The error for an unknown name: all known names where they are few, the nearest otherwise."""
    names = [str(candidate) for candidate in known]
    close = nearest(str(name), names)
    hint = f" Did you mean {close[0]!r}?" if close and close[0] != str(name) else ""
    if len(names) > 12:
        listed = f"the nearest of {len(names)} are {', '.join(close or names[:5])}"
    else:
        listed = f"known are {', '.join(names) or 'none'}"
    return UserError(f"unknown {kind} {str(name)!r}; {listed}.{hint}")


def choose(kind: str, wanted: Iterable[T] | None, known: Sequence[T]) -> list[T]:
    """The wanted ones in the order of ``known``, or all of them.

    Args:
        kind: what the names are, for the error.
        wanted: names to keep; ``None`` for all.
        known: names there are.

    Raises:
        UserError: if a name is unknown, or an empty selection was given.
    """
    if wanted is None:
        return list(known)
    asked = list(wanted)
    for name in asked:
        if name not in known:
            raise unknown(kind, name, known)
    if not asked:
        raise UserError(f"no {kind} selected; known are {', '.join(map(str, known))}. Leave the option out for all.")
    return [name for name in known if name in asked]


def import_object(path: str, kind: str) -> Any:
    """Import ``package.module.Name``.

    Raises:
        UserError: if there is no such module, or no such name in it.
    """
    module_name, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"cannot import the {kind} {path!r}: {error}. Expected the dotted path of a class, "
            'such as "package.module.Name".'
        ) from error
