"""Copies of committed entries as they were submitted, before anybody verified them."""

from __future__ import annotations

import shutil
from pathlib import Path

from kd_bench.verification.record import VERIFICATION_FILE


def copy_entry(source: Path, target: Path) -> Path:
    """Copy an entry, or a folder of entries, without the records of its verifications."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns(VERIFICATION_FILE), dirs_exist_ok=False))
