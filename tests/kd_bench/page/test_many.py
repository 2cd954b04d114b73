"""Ten thousand entries: built in bounded memory, and every one of them on the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from many_results import many_entries, write_entries

COUNT = 10_000
MAX_BYTES = 1_000_000_000

# the peak of the process's own memory: that of getrusage would begin with the memory of the process that starts it
BUILD = """
import re, sys
from pathlib import Path
from lightning_kd.cli.main import main
code = main(["leaderboard", "build", sys.argv[1], "--output", sys.argv[2], "--export"])
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_entries_are_built_within_a_gigabyte(tmp_path: Path) -> None:
    entries = many_entries(COUNT)
    write_entries(tmp_path / "leaderboards", entries)
    page = tmp_path / "site" / "index.html"
    command = [sys.executable, "-c", BUILD, str(tmp_path / "leaderboards"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1])
    assert 100_000_000 < peak < MAX_BYTES
    exported = json.loads((page.parent / "results.json").read_text(encoding="utf-8"))["entries"]
    assert {entry["entry"] for entry in exported} == {entry.path for entry in entries}
    text = page.read_text(encoding="utf-8")
    assert all(entry.run_set.student.name in text for entry in entries[::100])
