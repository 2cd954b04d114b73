"""Where commands print."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPE_WIDTH = 160


def console() -> Console:
    """A console on standard output: as wide as the terminal, or wide enough for a table in a pipe or a file."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(width=width)
