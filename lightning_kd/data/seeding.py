"""Random numbers that depend on a key alone, for transforms that draw from the global random states."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import torch


def seed_of(*key: int | str) -> int:
    """A seed of 64 bits that depends on every part of the key, in the same way everywhere.

    >>> seed_of(0, "mix", 7) == seed_of(0, "mix", 7)
    True
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block PyTorch (on the CPU), NumPy and ``random`` draw from ``seed``; after it they are as before.

    Args:
        seed: of 64 bits.
    """
    import numpy  # not at the top: importing this package stays light

    legacy: Any = numpy.random
    states = torch.default_generator.get_state(), legacy.get_state(), random.getstate()
    try:
        torch.default_generator.manual_seed(seed)
        legacy.seed([seed & 0xFFFFFFFF, seed >> 32])
        random.seed(seed)
        yield
    finally:
        torch.default_generator.set_state(states[0])
        legacy.set_state(states[1])
        random.setstate(states[2])
