"""JSON objects typed on a command line: constructor arguments."""

from __future__ import annotations

import json
from typing import Any

from lightning_kd.cli.errors import CommandError


def parse_object(option: str, text: str | None) -> dict[str, Any] | None:
    """Read constructor arguments.

    Args:
        option: the option's name, for the message.
        text: such as ``{"temperature": 4}``; ``None`` if the option was not given.

    Raises:
        CommandError: if the text is no JSON object.

    >>> parse_object("--init", '{"temperature": 4}')
    {'temperature': 4}
    """
    if text is None:
        return None
    example = f"write it like {option} '{{\"temperature\": 4}}'."
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"cannot read {option} {text!r} as JSON: {error}; {example}") from error
    if not isinstance(found, dict):
        raise CommandError(f"{option} {text!r} is no JSON object; {example}")
    return found
