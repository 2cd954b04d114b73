"""Where the files of an item lie below the benchmark's output directory."""

from __future__ import annotations

from pathlib import Path

from kd_bench.results import pair_slug, slug

STATES = "state"
PLANS = "plan"
RUNS = "runs"
LOGS = "logs"
WEIGHTS = "weights"
METHODS = "methods"

TEACHER_DETECTIONS = "teacher.npz"
"""What the pair's teacher found on the test images; beside the detections of its students."""


def item_file(
    output: Path, kind: str, protocol: str, method: str, student: str, teacher: str, seed: int, extension: str
) -> Path:
    """``<output>/<kind>/<protocol>/<method>/<student>__<teacher>/seed-<seed>.<extension>``.

    Args:
        output: the benchmark's output directory.
        kind: what the file is, such as :data:`RUNS`.
        protocol: the protocol's id.
        method: name of the row.
        student: model name.
        teacher: model name.
        seed: the seed.
        extension: without the dot.
    """
    folder = output / kind / slug(protocol) / slug(method) / pair_slug(student, teacher)
    return folder / f"seed-{seed}.{extension}"
