"""What happens when nothing more can be written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_benchmark
from kd_bench.launchers.attempt import Done, Failed
from kd_bench.protocol import Protocol
from kd_bench.runner import plan
from kd_bench.storage import DiskFullError, has_room, is_disk_full, write_atomic
from plain_streams import attempt

IN_A_SMALL_FILE_SYSTEM = """
set -e
mount -t tmpfs -o size=4m none output
$BENCHMARK --methods plain
dd if=/dev/zero of=output/filler bs=4k 2>/dev/null || true
truncate -s -16k output/filler
before=$(cat $(find output/runs output/results -type f | sort) | sha256sum)
if $BENCHMARK; then exit 1; else test $? = 2; fi
test -z "$(find output -name '*.tmp')"
test "$before" = "$(cat $(find output/runs output/results -type f | sort) | sha256sum)"
rm output/filler
$BENCHMARK
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_full_disk_stops_the_benchmark_and_costs_nothing_that_was_finished(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        pytest.skip("this user may not have file systems of their own")
    (tmp_path / "output").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "BENCHMARK": f"{sys.executable} {tiny_benchmark.__file__} output local --epochs 2 --workers 1",
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_A_SMALL_FILE_SYSTEM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "done 2 skipped 0 failed 0"
    assert lines[-1] == "done 2 skipped 2 failed 0"
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"No space left on the disk of {tmp_path / 'output'}" in error
    assert "free some space there and start the same command again. (2 of 4 runs are finished)" in error
    # the others were not tried one by one
    assert done.stderr.count("FAILED") == 1


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_item_fails_for_all_if_the_disk_stays_full(
    tiny: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = plan(tiny, tmp_path, methods=["plain"])[0]
    monkeypatch.setattr(os, "fsync", _no_space)
    outcome = attempt(item)
    assert isinstance(outcome, Failed)
    assert outcome.message.startswith(f"No space left on the disk of {tmp_path}")
    assert outcome.fatal
    assert item.load() is None
    monkeypatch.undo()
    assert isinstance(attempt(item), Done)
    assert "No space left" in item.log.read_text()  # the first attempt's output is still there
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_item_fails_alone_if_there_is_room_again(
    tiny: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = plan(tiny, tmp_path, methods=["plain"])[0]

    def no_space_for_results(source: Path, target: Path) -> None:
        if "results" in target.parts:
            _no_space(0)
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", no_space_for_results)
    outcome = attempt(item)
    assert isinstance(outcome, Failed)
    assert outcome.retryable
    assert not outcome.fatal


def test_a_full_disk_is_recognised_behind_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path)
    assert not is_disk_full(PermissionError(errno.EACCES, "no"))
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(DiskFullError) as caught:
        write_atomic(tmp_path / "file", b"content")
    wrapped = RuntimeError("the writer failed")
    wrapped.__cause__ = caught.value
    assert is_disk_full(wrapped)
    assert not has_room(tmp_path)
    assert not list(tmp_path.iterdir())
