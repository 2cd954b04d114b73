"""The two parts a protocol can play on data that comes without a validation split: tuning, and the final training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kd_bench.errors import UserError
from kd_bench.names import unknown

FINAL = "final"
TUNING = "tuning"


@dataclass(frozen=True)
class FixedSplit:
    """Positions in a training set, ascending.

    Attributes:
        train: what is trained on while hyper-parameters are chosen.
        validation: what they are chosen by.
    """

    train: np.ndarray
    validation: np.ndarray

    def content(self) -> bytes:
        """What a checksum covers."""
        return self.train.astype("<i8").tobytes() + self.validation.astype("<i8").tobytes()


@lru_cache(maxsize=4)
def fixed_split(size: int, validation_fraction: float, seed: int) -> FixedSplit:
    """Draw a validation split without looking at the samples, so that it is known before the data is there.

    Args:
        size: samples in the training set.
        validation_fraction: share of them in the validation split.
        seed: determines the split.

    Raises:
        UserError: if the fraction leaves one side empty.
    """
    count = round(validation_fraction * size)
    if not 0 < count < size:
        raise UserError(
            f"validation_fraction {validation_fraction} of {size:,} training samples leaves one side of the split "
            "empty; give a share between 0 and 1, such as 0.1"
        )
    order = np.random.default_rng(seed).permutation(size)
    return FixedSplit(train=np.sort(order[count:]), validation=np.sort(order[:count]))


def check_part(part: str) -> str:
    """``part`` if it is one of the two.

    Raises:
        UserError: if it is not.
    """
    if part not in (FINAL, TUNING):
        raise unknown("data part", part, [FINAL, TUNING])
    return part


def no_validation(data: str) -> UserError:
    """The error where a validation split is asked for and all samples are trained on."""
    return UserError(
        f"{data} has no validation split in its part {FINAL!r}, which trains on the whole training set. A method that "
        f"chooses something by validation accuracy can be run in the part {TUNING!r} only; for the final training give "
        "it the chosen value."
    )
