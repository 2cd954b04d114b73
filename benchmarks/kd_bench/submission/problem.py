"""What is wrong with a submission, said so that neither a terminal nor a web page can be harmed by its text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_SHOWN = 120
"""Characters of a submission's own text that a message repeats."""

_MAX_MESSAGE = 1000
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_WORKFLOW_COMMAND = re.compile(r"::|##\[")


@dataclass(frozen=True)
class Problem:
    """Why a submission is refused, or, as a notice, what a maintainer should look at.

    Attributes:
        path: file or folder, as :func:`shown`.
        rule: name of the rule, such as ``seeds``; ``docs/checks.md`` lists them.
        message: what was found, what is expected and what to do; one line of printable characters.
    """

    path: str
    rule: str
    message: str

    def __post_init__(self) -> None:
        # whatever the message was put together from, it stays one harmless line
        object.__setattr__(self, "path", shown(self.path, limit=300))
        object.__setattr__(self, "message", shown(self.message, limit=_MAX_MESSAGE))

    def __str__(self) -> str:
        return f"{self.rule}: {self.path}: {self.message}"


class RefusedError(Exception):
    """A rule was broken in such a way that nothing behind it can be looked at.

    Attributes:
        rule: name of the rule.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule

    def at(self, path: object) -> Problem:
        """The problem, with the place where it was found."""
        return Problem(str(path), self.rule, str(self))


def shown(text: object, limit: int = MAX_SHOWN) -> str:
    r"""Untrusted text as one line of printable characters.

    Control, bidirectional, zero-width and other invisible characters are written as escapes, so that a terminal does
    nothing but print, and so are the marks with which a line of a log gives orders to GitHub Actions.

    Args:
        text: anything.
        limit: longest result; what is beyond is left out.

    >>> shown("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    whole = str(text)
    safe = "".join(_escaped(character) for character in whole[:limit])
    safe = _WORKFLOW_COMMAND.sub(lambda found: found[0][:-1] + _code(found[0][-1]), safe)
    return safe if len(whole) <= limit else f"{safe}…"


def is_invisible(character: str) -> bool:
    """Whether a character cannot be seen, or changes how its neighbours are shown."""
    return (
        unicodedata.category(character) in _INVISIBLE
        or character in _BLANKS
        or (unicodedata.category(character) == "Zs" and character != " ")
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and symbols that look like nothing; their category does not say so."""


def _escaped(character: str) -> str:
    return _code(character) if is_invisible(character) else character


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
