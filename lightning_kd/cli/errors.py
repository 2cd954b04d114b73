"""What a command raises when it was asked for something it cannot do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CommandError(Exception):
    """A mistake in what the user typed or pointed at; printed without a traceback, exit code 2."""


def unknown(kind: str, given: str, known: Iterable[str], advice: str) -> CommandError:
    """An error for a name that does not exist.

    Args:
        kind: what the name stands for, such as ``"command"``.
        given: the name as typed.
        known: the names that exist.
        advice: what to do, a sentence.

    Returns:
        The error to raise; its message lists the nearest names first.

    >>> print(unknown("command", "bnech", ["bench", "methods"], "See `lightning-kd --help`."))
    unknown command 'bnech'; did you mean 'bench'? Known: bench, methods. See `lightning-kd --help`.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return CommandError(f"unknown {kind} {given!r}{guess} Known: {', '.join(names) or 'none'}. {advice}")
