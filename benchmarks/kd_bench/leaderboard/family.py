"""The family that a method belongs to, read from the path of its class."""

from __future__ import annotations

from kd_bench.results import RunSet

BASELINE = "baseline"
CUSTOM = "custom"


def family_of(run_set: RunSet) -> str:
    """Folder of the method inside the package, :data:`BASELINE` for the plain student, or :data:`CUSTOM`."""
    if run_set.method.class_path is None:
        return BASELINE
    root, _, rest = run_set.method.class_path.partition(".methods.")
    return rest.partition(".")[0] if root == "lightning_kd" else CUSTOM
