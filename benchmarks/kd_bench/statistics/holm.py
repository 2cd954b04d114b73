"""What many comparisons on one board cost: Holm's adjustment of p-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Holm's step-down adjustment: the chance of even one false separation stays below the level.

    .. math:: \tilde p_{(i)} = \max_{j \le i}\ \min(1, (m - j + 1)\,p_{(j)})

    It holds whatever the dependence among the tests, and never adjusts more than Bonferroni's factor :math:`m`.

    Args:
        p_values: of the ``m`` tests of a family, in any order.

    Returns:
        The adjusted p-values in the same order.

    Raises:
        ValueError: if a value is not in ``[0, 1]``.

    Reference: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6,
    1979.

    >>> [round(float(value), 6) for value in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p_values, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values lie between 0 and 1, got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * values[order]))
    return adjusted
