"""Every text of a submission: visible characters in one form, and names that can be nothing but what they look like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from kd_bench.submission.problem import is_invisible, shown

MAX_MARKS = 3
"""Combining marks that one letter may carry; more are piled up to spill over the neighbouring lines."""

_CLASS_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_ARXIV = re.compile(r"[0-9]{4}\.[0-9]{4,5}(v[0-9]{1,2})?|[a-z-]+(\.[A-Z]{2})?/[0-9]{7}(v[0-9]{1,2})?")
_SCHEME = re.compile(r"\s*(javascript|vbscript|data|file)\s*:", re.IGNORECASE)

_SHAPES = {
    "class_path": (_CLASS_PATH, "the dotted path of a class, such as my_method.MyMethod"),
    "arxiv": (_ARXIV, "the number of a paper, such as 1503.02531"),
}


def text_problems(record: BaseModel) -> Iterator[str]:
    """What is wrong with the texts of a record, each with the place where it stands.

    Args:
        record: a run set, a verification, a correction.
    """
    for place, text in texts(record):
        problem = _problem(place.rpartition(".")[2], text)
        if problem:
            yield f"{shown(place)} {problem}"


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a record, keys of its dictionaries included, with its place, such as ``method.citation.title``.

    Args:
        value: a record, or a part of one.
        place: of that part.
    """
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from texts(getattr(value, name), f"{place}.{name}" if place else name)
    elif isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{place} (a key)", str(key)
            yield from texts(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from texts(item, f"{place}.{number}")


def _problem(name: str, text: str) -> str | None:
    for character in text:
        if is_invisible(character):
            return (
                f"holds the invisible or unprintable character U+{ord(character):04X}: {shown(text)!s}. Only printable "
                "characters are accepted"
            )
    if unicodedata.normalize("NFC", text) != text:
        return f"is not in Unicode's normal form C: {shown(ascii(text))}. Write its letters precomposed"
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks > MAX_MARKS:
            return f"piles up more than {MAX_MARKS} combining marks on a letter: {shown(ascii(text))}"
    if _SCHEME.match(text):
        return f"begins like a link that runs a script or opens a file: {shown(text)}"
    shape, expected = _SHAPES.get(name, (None, ""))
    if shape is not None and not shape.fullmatch(text):
        return f"is {shown(text)!r}; expected {expected}"
    return None
