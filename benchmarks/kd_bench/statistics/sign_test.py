"""The sign test: on how many seeds is one method ahead?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def sign_test_p_values(differences: ArrayLike) -> NDArray[np.float64]:
    """Exact two-sided sign tests of many rows at once; seeds without a difference count for neither side.

    Args:
        differences: ``(rows, n)``, or ``(n,)`` for one row.

    Returns:
        One p-value a row: 1.0 where there is no difference at all, and never below ``2 ** (1 - n)``.

    >>> sign_test_p_values([0.01, 0.02, 0.01, 0.03, -0.01]).tolist()
    [0.375]
    """
    rows = np.atleast_2d(np.asarray(differences, dtype=float))
    above, below = (rows > 1e-12).sum(axis=1), (rows < -1e-12).sum(axis=1)
    tails = special.bdtr(np.minimum(above, below), above + below, 0.5)
    return np.asarray(np.minimum(1.0, 2 * tails), dtype=float)
