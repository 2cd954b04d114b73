"""Random numbers that depend on a key alone, for transforms that draw from global random states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Inside the block PyTorch (on the CPU), NumPy and ``random`` draw from ``key``; after it they are as before.

    Args:
        *key: what the random numbers depend on, such as seed, epoch and sample; not negative.
    """
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    first, second, third = np.random.SeedSequence(key).generate_state(3).tolist()
    try:
        torch.default_generator.manual_seed(first)
        np.random.seed(second)
        random.seed(third)
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
