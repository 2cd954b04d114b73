"""The option that says where results lie, of the commands that only read them."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_kd.cli.places import LEADERBOARDS, RUNS


def add_results(parser: ArgumentParser) -> None:
    """Declare ``--results``.

    Args:
        parser: that of the command.
    """
    parser.add_argument(
        "--results",
        metavar="DIR",
        help=f"Where the results lie; by default {LEADERBOARDS} if there is such a folder, else {RUNS}.",
    )


def results_directory(given: str | None) -> str:
    """What was given, or the default.

    Args:
        given: value of ``--results``.
    """
    if given is not None:
        return given
    return LEADERBOARDS if Path(LEADERBOARDS).is_dir() else RUNS
