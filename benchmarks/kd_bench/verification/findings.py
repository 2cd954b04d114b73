"""What a level of verification finds out about an entry, before anything is recorded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SeedResult:
    """One seed of an entry, as it is claimed and as it was found.

    Attributes:
        seed: the seed.
        claimed: the headline that the run set states.
        found: the headline that was measured; ``None`` if it could not be.
        agreement: share of test samples on which the class was predicted that is stored; ``None`` where that is not
            asked or cannot be said.
    """

    seed: int
    claimed: float
    found: float | None
    agreement: float | None = None

    @property
    def difference(self) -> float | None:
        """How far it was found above the claim."""
        return None if self.found is None else self.found - self.claimed


@dataclass(frozen=True)
class Findings:
    """What one level of verification found.

    Attributes:
        seeds: what was measured, ascending by seed.
        problems: what contradicts the claim; empty if it holds.
        remarks: what could not be verified, or is different from when the result was made.
        tolerance: largest difference of the headline of a seed that is accepted, as a fraction.
        mean_tolerance: the same of the mean over the seeds; ``None`` where only seeds are compared.
        obstacles: why something could not be measured that has to be; says nothing about the claim.
    """

    seeds: tuple[SeedResult, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    tolerance: float
    mean_tolerance: float | None = None
    obstacles: tuple[str, ...] = ()

    @property
    def hold(self) -> bool:
        """Whether everything was measured and nothing contradicts the claim."""
        return not self.problems and not self.obstacles

    @property
    def mean_difference(self) -> float | None:
        """How far the seeds were found above the claim on average; ``None`` if one could not be measured."""
        differences = [each.difference for each in self.seeds if each.difference is not None]
        return sum(differences) / len(differences) if differences and len(differences) == len(self.seeds) else None


def percent(value: float) -> str:
    """A fraction as messages show it.

    >>> percent(0.97401)
    '97.40'
    """
    return f"{100 * value:.2f}"
