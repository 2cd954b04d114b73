"""How far apart the predictions of an entry's seeds lie: trainings from different seeds end in different networks."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from kd_bench.entries import Entry
from kd_bench.errors import UserError
from kd_bench.predictions import read_predictions


def seed_distances(entry: Entry) -> dict[tuple[int, int], float]:
    """Two seeds → distance of their predictions; empty for detectors, and where the predictions are not at hand.

    Args:
        entry: with its folder.

    Returns:
        The standard deviation of the difference of the true class's log-probability, in units of its own.
    """
    if entry.folder is None or entry.run_set.task != "classification":
        return {}
    try:
        of_seed = {
            run.seed: read_predictions(entry.folder / run.predictions_file).label_log_probability.astype(np.float64)
            for run in entry.run_set.runs
        }
    except UserError:  # a matter for the check
        return {}
    return {
        (one, other): float(np.std(of_seed[one] - of_seed[other]) / spread)
        for one, other in combinations(sorted(of_seed), 2)
        # a method that flattens all probabilities has small differences without having equal seeds
        if of_seed[one].shape == of_seed[other].shape and (spread := np.std([of_seed[one], of_seed[other]])) > 0
    }
