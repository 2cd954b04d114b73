from __future__ import annotations

import io
from pathlib import Path

from kd_bench.launchers.events import Failure
from kd_bench.progress import progress_display
from kd_bench.protocol import Protocol
from kd_bench.runner import plan
from rich.console import Console


def test_progress_without_a_terminal_is_one_line_an_item(tiny: Protocol, tmp_path: Path) -> None:
    first, second = plan(tiny, tmp_path, methods=["KD"])
    stream = io.StringIO()
    with progress_display("digits-tiny", 3, 1, Console(file=stream, width=60)) as display:
        display.started(first)
        display.finished(first, 0.9512, 3.21)
        display.failed(Failure(second, "DivergedError: no number", tmp_path / "x.log"))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "digits-tiny: 1 of 3 runs were finished before"
    assert lines[1].startswith("[2/3] KD, seed 0: 95.12 % in 3.2 s, about ")
    assert lines[2] == f"[3/3] KD, seed 1 FAILED: DivergedError: no number (log: {tmp_path / 'x.log'})"


def test_progress_on_a_terminal_shows_running_items_and_failures(tiny: Protocol, tmp_path: Path) -> None:
    first, second = plan(tiny, tmp_path, methods=["KD"])
    stream = io.StringIO()
    with progress_display("digits-tiny", 3, 0, Console(file=stream, width=80, force_terminal=True)) as display:
        for item in (first, second):
            display.started(item)
            display.advanced(item, 1, 2)
        display.finished(first, 0.9512, 3.21)
        display.failed(Failure(second, "DivergedError: no number", tmp_path / "x.log"))
    shown = stream.getvalue()
    for part in ("KD, seed 0", "KD, seed 1", "1/2", "epochs", "left", "KD, seed 1 failed: DivergedError: no number"):
        assert part in shown
