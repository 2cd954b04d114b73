"""What a result was made with: versions, machine, state of the checkout."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lightning
import torch

import lightning_kd
from kd_bench.results import Environment


@dataclass(frozen=True)
class Checkout:
    """State of the git checkout that the package runs from; both ``None`` outside one."""

    revision: str | None
    dirty: bool | None


def describe_environment() -> Environment:
    """Versions and machine of this process."""
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        lightning=lightning.__version__,
        lightning_kd=lightning_kd.__version__,
        platform=platform.platform(),
        cpu=_cpu(),
        threads=torch.get_num_threads(),
    )


@cache
def describe_checkout() -> Checkout:
    """Revision of the checkout around the package, if git tracks the package there."""
    here = Path(lightning_kd.__file__).parent
    # an installed package may lie inside some other repository, whose revision would mean nothing
    if _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return Checkout(None, None)
    revision = _git(here, "rev-parse", "HEAD")
    status = _git(here, "status", "--porcelain", "--untracked-files=normal", ".")
    return Checkout(revision, None if status is None else bool(status))


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
