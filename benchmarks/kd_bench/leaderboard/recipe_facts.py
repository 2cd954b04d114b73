"""What a board says of the recipe of its students; published figures often cannot be compared for want of it."""

from __future__ import annotations

from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import RunSet


def recipe_facts(run_set: RunSet) -> str:
    """Where detectors start, how long they are trained, and how large their images are, in a sentence.

    Args:
        run_set: any of the board.

    Returns:
        Nothing for classifiers, and for protocols that do not come with the package.
    """
    try:
        protocol = load_protocol(run_set.protocol.id)
    except UserError:
        return ""
    if run_set.task != "detection" or protocol.hash != run_set.protocol.hash:
        return ""
    student = run_set.student.name
    epochs = protocol.recipe_for(student).epochs
    return f"Students start {_start(protocol, student)}; {epochs} epochs{_scale(protocol, student)}."


def _start(protocol: Protocol, student: str) -> str:
    start = protocol.start_of(student)
    brought = start.options.get("backbone_weights") or start.options.get("pretrained")
    backbone = "with ImageNet weights of the backbone" if brought else "with random weights"
    return f"{backbone} and their teacher's neck and head" if start.inherits else backbone


def _scale(protocol: Protocol, student: str) -> str:
    settings = {**protocol.data.parameters, **protocol.start_of(student).options}
    shorter = settings.get("min_size")
    if shorter is None:
        return ""
    sizes = [str(size) for size in (shorter if isinstance(shorter, list) else [shorter])]
    return f"; images of {'/'.join(sizes)} pixels, the longer side at most {settings.get('max_size')}"
