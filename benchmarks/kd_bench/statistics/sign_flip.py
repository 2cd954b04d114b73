"""The sign-flip permutation test: could the differences as well have had the other sign?"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALL_SIGNS = 16
"""Up to this many pairs all sign patterns are enumerated; beyond, they are sampled."""

_SAMPLED = 2**16
_BLOCK = 2**22
"""How many sums are held at a time."""


def sign_flip_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    r"""Two-sided sign-flip tests of many rows at once.

    If two methods are the same, the difference on a seed is as likely to be positive as negative. The p-value is the
    share of all :math:`2^n` sign patterns whose sum is at least as far from zero as the observed one; it cannot be
    below :math:`2^{1-n}`. With more than :data:`ALL_SIGNS` seeds it is estimated from sampled patterns.

    Args:
        differences: ``(rows, n)``, or ``(n,)`` for one row.

    Returns:
        One p-value a row.

    >>> sign_flip_p_values([[0.01, 0.02, 0.03], [0.01, -0.02, 0.03]]).tolist()
    [0.25, 0.75]
    """
    rows = np.atleast_2d(np.asarray(differences, dtype=float))
    count = rows.shape[1]
    signs = _all_signs(count) if count <= ALL_SIGNS else _sampled_signs(count)
    # sums that are equal on paper must count as equal, whatever the order in which they were added
    reached = np.abs(rows.sum(axis=1)) - 1e-9 * np.abs(rows).sum(axis=1)
    as_far = np.zeros(len(rows), dtype=np.int64)
    step = max(1, _BLOCK // max(1, len(rows)))
    for start in range(0, len(signs), step):
        sums = np.abs(signs[start : start + step].astype(float) @ rows.T)
        as_far += (sums >= reached).sum(axis=0)
    if count <= ALL_SIGNS:
        return as_far / len(signs)
    return (as_far + 1) / (len(signs) + 1)  # the observed pattern is one of them


@cache
def _all_signs(count: int) -> NDArray[np.int8]:
    """Half of the patterns: the other half has the same sums with the opposite sign."""
    patterns = np.arange(2 ** max(0, count - 1))
    bits = (patterns[:, None] >> np.arange(count)) & 1
    return (1 - 2 * bits).astype(np.int8)


@lru_cache(maxsize=2)
def _sampled_signs(count: int) -> NDArray[np.int8]:
    random = np.random.default_rng(0)
    return (2 * random.integers(0, 2, size=(_SAMPLED, count), dtype=np.int8) - 1).astype(np.int8)
