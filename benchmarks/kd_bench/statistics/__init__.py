"""What can be said about a handful of seeds and boards: one file a question. Nothing here is ever stored."""

from kd_bench.statistics.bootstrap import FEW_SEEDS, BootstrapInterval, bootstrap_interval
from kd_bench.statistics.friedman import FriedmanTest, critical_difference, friedman_test, nemenyi_quantile
from kd_bench.statistics.gap import gap_closed
from kd_bench.statistics.holm import holm
from kd_bench.statistics.intervals import MeanInterval, mean_interval, t_quantile
from kd_bench.statistics.moderation import VariancePrior, variance_prior
from kd_bench.statistics.paired import PairedTest, paired_test, paired_tests
from kd_bench.statistics.pairwise import Pairwise, pairwise_comparisons
from kd_bench.statistics.ranks import average_ranks, mid_ranks
from kd_bench.statistics.sign_flip import sign_flip_p_values
from kd_bench.statistics.sign_test import sign_test_p_values

__all__ = [
    "FEW_SEEDS",
    "BootstrapInterval",
    "FriedmanTest",
    "MeanInterval",
    "PairedTest",
    "Pairwise",
    "VariancePrior",
    "average_ranks",
    "bootstrap_interval",
    "critical_difference",
    "friedman_test",
    "gap_closed",
    "holm",
    "mean_interval",
    "mid_ranks",
    "nemenyi_quantile",
    "paired_test",
    "paired_tests",
    "pairwise_comparisons",
    "sign_flip_p_values",
    "sign_test_p_values",
    "t_quantile",
    "variance_prior",
]
