"""Rule: the predictions of an entry are its own, not those of another seed, method or file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from kd_bench.submission.candidate import Candidate
from kd_bench.submission.finding import Context, Finding


def own_predictions(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """No two trainings end in the same network.

    Args:
        candidate: the entry.
        context: with all others.
    """
    mine = candidate.signatures
    for first, second in combinations(sorted(mine), 2):
        if mine[first].same_training(mine[second]):
            message = f"the seeds {first} and {second} have the same predictions, but for rounding"
            yield Finding("repeated-seed", message)
    for path, other in context.others.items():
        if not _comparable(candidate, other):
            continue
        theirs = other.signatures
        pairs = ((one, two) for one in mine for two in theirs if mine[one].same_training(theirs[two]))
        if (same := next(pairs, None)) is not None:
            yield Finding(
                "copied",
                f"seed {same[0]} has the predictions of seed {same[1]} of {path}, but for rounding: another method's "
                "results renamed. Run the method itself",
            )


def _comparable(candidate: Candidate, other: Candidate) -> bool:
    mine, theirs = candidate.run_set, other.run_set
    return mine.protocol == theirs.protocol and candidate.path != other.path
