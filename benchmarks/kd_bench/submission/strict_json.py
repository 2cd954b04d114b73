"""JSON as we write it, read without tolerance: each key once, numbers that all programs read alike, bounded depth."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kd_bench.submission.problem import RefusedError, shown

MAX_DEPTH = 32
MAX_INTEGER = 2**53
"""From here on not every program can tell neighbouring integers apart."""

M = TypeVar("M", bound=BaseModel)


def parse_model(content: bytes, model: type[M]) -> M:
    """Validate a file's content.

    Args:
        content: of the file.
        model: what it describes.

    Raises:
        RefusedError: by the rule ``json`` if it is no JSON that all read alike, by ``number`` if it holds a number that
            is none, by ``schema`` if it does not match the model.
    """
    parse(content)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        places = [
            f"{'.'.join(shown(part, 40) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)[:3]
        ]
        more = f" (and {error.error_count() - 3} more)" if error.error_count() > 3 else ""
        message = f"is no {model.__name__} as the schema describes it: {'; '.join(places)}{more}"
        raise RefusedError("schema", message) from None


def parse(content: bytes) -> Any:
    """Parse a file's content.

    Args:
        content: of the file.

    Raises:
        RefusedError: by the rule ``json`` or ``number``; see :func:`parse_model`.
    """
    if content.startswith(b"\xef\xbb\xbf"):
        raise RefusedError("json", "begins with a byte order mark; save it as UTF-8 without one")
    if b"\x00" in content:
        raise RefusedError("json", "holds null bytes; expected UTF-8 text")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("json", f"is not UTF-8 (byte {error.start:,})") from None
    try:
        found = json.loads(
            text, object_pairs_hook=_once, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise RefusedError("json", f"is not JSON: {error.msg} in line {error.lineno:,}") from None
    except RecursionError:
        raise RefusedError("json", f"is nested more than {MAX_DEPTH} deep") from None
    level = [found]
    for _ in range(MAX_DEPTH):
        level = [item for value in level for item in _parts(value)]
    if level:
        raise RefusedError("json", f"is nested more than {MAX_DEPTH} deep")
    return found


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RefusedError("json", f"has the key {shown(key)!r} twice in one object")
            seen.add(key)
    return found


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise RefusedError("number", f"holds the integer {shown(text, 30)}; at most 2^53 is accepted")
    return int(text)


def _number(text: str) -> float:
    if len(text) > 40:
        raise RefusedError("number", f"holds a number of {len(text):,} characters: {shown(text, 30)}")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise RefusedError("number", f"holds the number {text}, which is too large for a float")
    # a number that is nearly nothing was not measured, and programs differ in whether they take it for zero
    if abs(value) < sys.float_info.min and any(digit in "123456789" for digit in text.lower().partition("e")[0]):
        raise RefusedError("number", f"holds the number {text}, which is too small for a float")
    return value


def _constant(text: str) -> float:
    raise RefusedError("number", f"holds {text}, which is not a number in JSON")
