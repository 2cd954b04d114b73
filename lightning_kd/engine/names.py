"""Naming what exists when a name is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], count: int = 5) -> str:
    """The known names most like ``name``, for an error message.

    >>> nearest("layr3", ["layer1", "layer3", "fc"], 1)
    "'layer3'"
    """
    names = [known_name for known_name in known if known_name]
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if not close:
        close = names[:count]
    return ", ".join(repr(known_name) for known_name in close) or "none"
