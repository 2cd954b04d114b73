"""What a leaderboard page is made from, as options of the commands that make one."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_kd.cli.places import RUNS


def add_results_and_reported(parser: ArgumentParser) -> None:
    """Declare the results, as a positional argument, and ``--reported``.

    Args:
        parser: that of the command.
    """
    parser.add_argument(
        "results",
        nargs="?",
        metavar="RESULTS_DIR",
        default=RUNS,
        help="Output of `bench run`, a `leaderboards` folder, or a folder below.",
    )
    parser.add_argument(
        "--reported",
        metavar="DIR",
        help="Figures from papers, <data set>.csv; by default those that come with kd_bench.",
    )
