"""Rules about what an entry states: the protocol, the pair, the seeds, the student, the numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from kd_bench.names import nearest
from kd_bench.protocol import Protocol
from kd_bench.results import PLAIN
from kd_bench.submission.candidate import Candidate
from kd_bench.submission.finding import Context, Finding
from kd_bench.submission.method_rules import method_name, method_source
from kd_bench.submission.model_size import model_size
from kd_bench.submission.sources import library_methods
from kd_bench.submission.teacher_rules import teacher_known
from kd_bench.submission.text_fields import text_problems
from lightning_kd import DistillationMethod

Rule = Callable[[Candidate, Context], Iterator[Finding]]

MIN_SEEDS = 3

_RANGES = {
    "seconds": (0.1, 1e9),
    "peak_memory_mb": (1.0, 1e8),
    "threads": (1, 100_000),
    "extra_parameters": (0, 1e12),
    "parameters": (1, 1e12),
    "task_weight": (0.0, 1e6),
    "warmup": (0, 1e6),
    "warmup_steps": (0, 1e9),
    "nll": (0.0, 1e4),
    "train_loss": (-1e12, 1e12),
}
"""What a measurement may plausibly be; JSON's ``1e300`` is a number, too."""

_ANYTHING = (-1e15, 1e15)


def check_rules(candidate: Candidate, context: Context) -> list[Finding]:
    """Everything that the rules say about an entry, except for its predictions and its history.

    Args:
        candidate: the entry.
        context: what it is judged by.
    """
    first = [*texts(candidate, context), *path(candidate, context), *protocol(candidate, context)]
    if any(finding.rule == "protocol" for finding in first):
        return first  # the others ask the protocol
    return first + [finding for rule in RULES for finding in rule(candidate, context)]


def texts(candidate: Candidate, _: Context) -> Iterator[Finding]:
    """All texts are printable, and nothing else than they look like."""
    for record in (candidate.run_set, *candidate.verifications):
        for problem in text_problems(record):
            yield Finding("text", problem)


def path(candidate: Candidate, _: Context) -> Iterator[Finding]:
    """An entry lies where its content belongs."""
    found = "/".join(candidate.folder.absolute().parts[-3:])
    if found != candidate.path:
        message = f"lies in {found}, but its content belongs into {candidate.path}; folders are not renamed"
        yield Finding("path", message)


def protocol(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """The protocol is known, and the recipe the current one."""
    reference = candidate.run_set.protocol
    known = context.protocols.get(reference.id)
    if known is None:
        close = nearest(reference.id, context.protocols)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        names = ", ".join(context.protocols)
        yield Finding("protocol", f"there is no protocol {reference.id!r}{hint} Known are {names}")
    elif reference.hash != known.hash:
        yield Finding(
            "protocol-hash",
            f"was made under another recipe of {reference.id!r} (hash {reference.hash[:12]}…, expected "
            f"{known.hash[:12]}…), such as a quick or altered one; results would not be comparable. Run the protocol "
            "as it comes with lightning_kd",
        )


def pair(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """Student and teacher are a pair of the protocol."""
    run_set, known = candidate.run_set, _protocol(candidate, context)
    names = run_set.student.name, run_set.teacher.name
    if names not in {(each.student, each.teacher) for each in known.pairs.values()}:
        pairs = ", ".join(f"{each.student} from {each.teacher}" for each in known.pairs.values())
        yield Finding("pair", f"{known.id} has no student {names[0]} of {names[1]}; its pairs are {pairs}")
    if run_set.task != known.task:
        yield Finding("task", f"{known.id} is about {known.task}, but the scores are those of {run_set.task}")


def seeds(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """At least three seeds, and only the protocol's."""
    known, found = _protocol(candidate, context), candidate.run_set.seeds
    if foreign := sorted(set(found) - set(known.seeds)):
        yield Finding("seeds", f"{known.id} has the seeds {_list(known.seeds)}; found {_list(foreign)}, too")
    if len(set(found) & set(known.seeds)) < min(MIN_SEEDS, len(known.seeds)):
        yield Finding("seeds", f"at least {MIN_SEEDS} seeds of {_list(known.seeds)} are needed, found {_list(found)}")
    for run in candidate.run_set.runs:
        if run.predictions_file != f"seed-{run.seed}.npz":
            yield Finding("seeds", f"the predictions of seed {run.seed} must be in seed-{run.seed}.npz")


def track(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """The track is the protocol's."""
    known = _protocol(candidate, context)
    if candidate.run_set.track != known.track:
        yield Finding("track", f"{known.id} is of the track {known.track!r}, found {candidate.run_set.track!r}")


def claimed(candidate: Candidate, _: Context) -> Iterator[Finding]:
    """No entry verifies itself."""
    if candidate.run_set.verification != "claimed":
        yield Finding(
            "verification",
            f"states that it is {candidate.run_set.verification!r}; a run set says 'claimed', and what was verified is "
            "recorded beside it by `lightning-kd leaderboard verify`",
        )


def extra_data(candidate: Candidate, _: Context) -> Iterator[Finding]:
    """Other training data than the protocol's is declared."""
    if candidate.run_set.extra_data:
        yield Finding("extra-data", "declares that more data was used than the protocol's training split", notice=True)


def epochs(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """Students are trained as long as the protocol says."""
    expected = _protocol(candidate, context).recipe_for(candidate.run_set.student.name).epochs
    for run in candidate.run_set.runs:
        if len(run.curve.train_loss) != expected:
            found = len(run.curve.train_loss)
            yield Finding("epochs", f"seed {run.seed} has curves of {found} epochs; the recipe has {expected}")


def numbers(candidate: Candidate, _: Context) -> Iterator[Finding]:
    """Every number is one that can have been measured."""
    for place, value in _numbers(candidate.run_set):
        name = place.rstrip("0123456789.").rpartition(".")[2]
        # the parameters of a method have names of their own
        low, high = _ANYTHING if ".parameters." in place else _RANGES.get(name, _ANYTHING)
        if not low <= value <= high or 0 < abs(value) < sys.float_info.min:
            yield Finding("number", f"{place} is {value}; expected from {low:g} to {high:g}")
            return


def student(candidate: Candidate, context: Context) -> Iterator[Finding]:
    """The student is the pair's: it has as many parameters as everybody else's."""
    run_set = candidate.run_set
    expected = model_size(run_set.protocol.id, run_set.student.name) or _published_size(candidate, context)
    found = run_set.student.parameters
    if expected is None or found == expected:
        return
    cls = library_methods().get(run_set.method.class_path or "")
    plain = run_set.method.class_path is None or (cls is not None and cls.deploy is DistillationMethod.deploy)
    if found < expected or plain:
        yield Finding("student", f"{run_set.student.name} has {found:,} parameters; expected {expected:,}")
    elif found > 10 * expected:
        yield Finding("student", f"{run_set.student.name} has {found:,} parameters, ten times those of the pair's")
    elif cls is None:
        yield Finding(
            "student",
            f"{run_set.student.name} has {found:,} parameters in place of {expected:,}: confirm that it cannot predict "
            "without what was added",
            notice=True,
        )


RULES: tuple[Rule, ...] = (
    pair,
    seeds,
    track,
    claimed,
    extra_data,
    epochs,
    numbers,
    student,
    teacher_known,
    method_name,
    method_source,
)


def _protocol(candidate: Candidate, context: Context) -> Protocol:
    return context.protocols[candidate.run_set.protocol.id]


def _published_size(candidate: Candidate, context: Context) -> int | None:
    mine = candidate.run_set
    for other in context.others.values():
        run_set = other.run_set
        same = run_set.protocol == mine.protocol and run_set.student.name == mine.student.name
        if same and run_set.method.name == PLAIN:
            return run_set.student.parameters
    return None


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _numbers(getattr(value, name), f"{place}.{name}" if place else name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{place}.{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:20])) or "none"
