"""Which entries are whose: everything that the teacher's answers depend on, and the directory that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_kd.cache.errors import TeacherCacheError
from lightning_kd.cache.store import read_meta

Key = dict[str, Any]
"""Plain data: name of a part → its value."""


def directory_of(root: Path, key: Mapping[str, Any]) -> Path:
    """Where the entries of a key are.

    Args:
        root: where all caches are.
        key: see :data:`Key`.
    """
    text = json.dumps(dict(key), sort_keys=True)
    return root / hashlib.sha256(text.encode()).hexdigest()[:16]


def check_same_key(directory: Path, key: Mapping[str, Any]) -> None:
    """Raise unless a directory holds entries of this key.

    Args:
        directory: one that the user asked for by name.
        key: what is needed.

    Raises:
        TeacherCacheError: if there is no cache, or it is of another teacher, other data or other settings.
    """
    meta = read_meta(directory)
    if meta is None:
        raise TeacherCacheError(f"{directory} holds no teacher cache; leave out `reuse=` to begin one")
    found = meta.get("key", {})
    wanted = json.loads(json.dumps(dict(key)))
    other = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if other:
        differences = "; ".join(f"{name}: {_short(found.get(name))}, not {_short(wanted.get(name))}" for name in other)
        raise TeacherCacheError(
            f"the cache in {directory} does not belong to this training ({differences}). Leave out `reuse=`: the right "
            "directory is then found or begun"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-10:]}"
