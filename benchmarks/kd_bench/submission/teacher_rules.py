"""Rules about the teacher of an entry: it is one that others were taught by, or as good as those."""

from __future__ import annotations

from collections.abc import Iterator

from kd_bench.results import DetectionTeacherInfo
from kd_bench.submission.candidate import Candidate
from kd_bench.submission.finding import Context, Finding
from kd_bench.submission.model_size import model_size
from kd_bench.submission.teachers import REGISTRY, TOLERANCE, is_published


def teacher_known(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """The teacher is registered with the score and size that the entry states; see :mod:`.teachers` for new ones."""
    run_set = candidate.run_set
    info, protocol = run_set.teacher, context.protocols[run_set.protocol.id]
    if context.registry is None:
        yield Finding("teacher", f"no {REGISTRY} is at hand, so the teacher was not looked up", notice=True)
        return
    known = context.registry.known(protocol.id, info.name)
    of_hash = next((each for each in known if each.weights_sha256 == info.weights_sha256), None)
    if of_hash is not None:
        if not of_hash.describes(info):
            yield Finding(
                "teacher",
                f"{info.name} ({info.weights_sha256[:12]}…) is registered with a score of {of_hash.score} and "
                f"{of_hash.parameters:,} parameters; found {info.headline} and {info.parameters:,}",
            )
        return
    size = known[0].parameters if known else model_size(protocol.id, info.name)
    source = protocol.teachers.get(info.name)
    if size is not None and size != info.parameters:
        yield Finding("teacher", f"{info.name} has {size:,} parameters, found {info.parameters:,}: another network")
        return
    if not known and source is not None and source.accuracy is not None and _far(source.accuracy, info.headline):
        yield Finding(
            "teacher",
            f"{info.name} has a score of {source.accuracy:.4f} by its authors, found {info.headline:.4f}: another "
            "teacher, or measured wrongly",
        )
    elif not known:
        yield Finding(
            "teacher",
            f"nobody has been taught by {info.name} of {protocol.id} yet: a maintainer measures it and adds it to "
            f"{REGISTRY}",
            notice=True,
        )
    elif is_published(protocol, info.name):
        hashes = ", ".join(f"{each.weights_sha256[:12]}…" for each in known)
        yield Finding(
            "teacher",
            f"{info.name} is published, with the registered weights {hashes}; found {info.weights_sha256[:12]}…, "
            "another teacher",
        )
    elif all(_far(each.score, info.headline) for each in known):
        scores = ", ".join(f"{each.score:.4f}" for each in known)
        yield Finding(
            "teacher",
            f"{info.name} ({info.weights_sha256[:12]}…) is not registered, and its score {info.headline:.4f} is more "
            f"than {TOLERANCE:g} away from those that are ({scores}). Train it by the protocol's recipe",
        )
    else:
        truth = info.truth_sha256 if isinstance(info, DetectionTeacherInfo) else None
        scored = f", scored against {truth[:12]}…" if truth else ""
        yield Finding(
            "teacher",
            f"{info.name} ({info.weights_sha256[:12]}…, {info.headline:.4f}{scored}) is new: it was trained on the "
            f"submitter's machine and is about as good as the registered ones; a maintainer adds it to {REGISTRY}",
            notice=True,
        )


def _far(score: float, other: float) -> bool:
    return abs(score - other) > TOLERANCE
