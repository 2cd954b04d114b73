"""The examples run as they stand and print their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("mutual_learning.py", ("alone", "together")),
        ("bdkd_digits.py", ("KD", "DML", "BD-KD", "ECE")),
        ("tgeo_digits.py", ("TGeo-KD",)),
        ("teacher_cache.py", ("no cache", "warm cache", "yes")),
        ("detection.py", ("teacher", "student alone", "student with PKD", "AP50")),
    ],
)
def test_example(name: str, printed: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(word in done.stdout for word in printed), done.stdout


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert not [path.name for path in EXAMPLES.glob("*.py") if path.name not in tests and path.stem not in tests]
