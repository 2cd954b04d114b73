"""Attempts in a test's own process."""

from __future__ import annotations

import os
import sys
from typing import Any
from unittest import mock

from kd_bench.items import Item
from kd_bench.launchers import attempt as attempt_module
from kd_bench.launchers.attempt import Outcome


def attempt(item: Item, **options: Any) -> Outcome:
    """Like the attempt of a worker process: what it prints goes to the descriptors, not to pytest's own streams."""
    with (
        mock.patch.object(sys, "stdout", os.fdopen(1, "w", closefd=False)),
        mock.patch.object(sys, "stderr", os.fdopen(2, "w", closefd=False)),
    ):
        return attempt_module.attempt(item, **options)
