"""From a name to the task."""

from __future__ import annotations

from kd_bench.results import TaskName
from kd_bench.tasks.base import Task
from kd_bench.tasks.classification import Classification


def task_named(name: TaskName) -> Task:
    """The task of that name; detection is imported when it is needed, for it needs packages of its own."""
    if name == "detection":
        from kd_bench.tasks.detection import Detection

        return Detection()
    return Classification()
