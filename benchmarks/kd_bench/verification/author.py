"""Who verifies."""

from __future__ import annotations

import subprocess
from unicodedata import normalize

from kd_bench.errors import UserError
from kd_bench.submission.problem import is_invisible

MAX_LENGTH = 120


def author(given: str | None) -> str:
    """The name that goes into a record.

    Args:
        given: a name; that of git's configuration if ``None``.

    Raises:
        UserError: if there is none, or no name.
    """
    name = normalize("NFC", _git_name() if given is None else given.strip())
    if not name:
        raise UserError("who verifies? Give --by NAME, or set git's user.name; --dry-run records nothing.")
    if len(name) > MAX_LENGTH or any(is_invisible(character) for character in name):
        raise UserError(f"--by takes a name of at most {MAX_LENGTH} visible characters, got {name!r}.")
    return name


def _git_name() -> str:
    try:
        done = subprocess.run(
            ["git", "config", "--get", "user.name"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
