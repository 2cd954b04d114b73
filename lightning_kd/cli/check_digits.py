"""A short training of an author's method on the embedded digits, through the benchmark suite."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.check_load import Candidate
from lightning_kd.cli.errors import CommandError
from lightning_kd.methods.load_file import author_line

if TYPE_CHECKING:
    from kd_bench.results import Run

PROTOCOL = "digits-v1"
SECONDS = 60.0
"""Longest training of the method; then it is stopped and called too slow."""

_PLAIN = "plain"
_MINE = "mine"
WITH_METHOD = "with the method"


@dataclass(frozen=True)
class Score:
    """What one network scores on the digits' test split; agreement is that with the teacher."""

    accuracy: float
    nll: float | None = None
    ece: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class DigitsOutcome:
    """Outcome of :func:`train_on_digits`.

    Attributes:
        scores: by network: teacher, plain student, student with the method; empty if there was no training.
        problem: what went wrong; ``""`` for nothing.
        failed: whether the problem is one of the method.
        where: the author's line that raised, or ``""``.
        seconds: duration of the training with the method.
    """

    scores: Mapping[str, Score]
    problem: str = ""
    failed: bool = False
    where: str = ""
    seconds: float = 0.0

    @property
    def trained(self) -> bool:
        """Whether the training with the method went through."""
        return WITH_METHOD in self.scores

    @property
    def hurts(self) -> bool:
        """Whether the plain student is better."""
        return self.trained and self.scores[WITH_METHOD].accuracy < self.scores["plain student"].accuracy


class _TooSlowError(Exception):
    pass


def train_on_digits(candidate: Candidate, seconds: float = SECONDS) -> DigitsOutcome:
    """Train a teacher, a plain student and a student with the method, each for a few epochs.

    Args:
        candidate: the method; its class must be importable under its module's name in this process.
        seconds: longest training of the method.

    Returns:
        The scores, or what went wrong.
    """
    try:
        with bench_extra(), tempfile.TemporaryDirectory() as folder:
            return _train(candidate, Path(folder), seconds)
    except CommandError as error:
        return DigitsOutcome({}, str(error))


def _train(candidate: Candidate, folder: Path, seconds: float) -> DigitsOutcome:
    from kd_bench.items import Item
    from kd_bench.protocol import MethodRow, load_protocol
    from kd_bench.variants import quick
    from kd_bench.worker import run_item

    path = f"{candidate.cls.__module__}.{candidate.cls.__qualname__}"
    rows = {_PLAIN: MethodRow(), _MINE: MethodRow.model_validate({"class": path, "parameters": candidate.arguments})}
    protocol = quick(load_protocol(PROTOCOL)).model_copy(update={"methods": rows})
    pair = next(iter(protocol.pairs))
    # the teacher, which both need, is trained with the plain student and so not counted against the method
    plain = run_item(Item(protocol, pair, _PLAIN, 0, folder))
    scores = {"teacher": Score(plain.teacher.headline), "plain student": _score(plain.run)}
    start = time.perf_counter()

    def on_epoch(done: int, planned: int) -> None:
        if time.perf_counter() - start > seconds and done < planned:
            raise _TooSlowError(f"{done} of {planned} epochs took {time.perf_counter() - start:.0f} s")

    try:
        mine = run_item(Item(protocol, pair, _MINE, 0, folder), on_epoch)
    except _TooSlowError as error:
        return DigitsOutcome(scores, f"too slow: {error}, the plain student needs {plain.run.seconds:.0f} s", True)
    except Exception as error:
        # whatever it is, it comes from training with this method: the plain student went through
        problem = f"the training fails with {type(error).__name__}: {error}"
        # that the suite's batches carry no indices is not the method's fault
        failed = not (candidate.cls.needs_index and "no indices" in str(error))
        return DigitsOutcome(scores, problem, failed, author_line(error, candidate.file))
    scores[WITH_METHOD] = _score(mine.run)
    return DigitsOutcome(scores, seconds=time.perf_counter() - start)


def _score(run: Run) -> Score:
    from kd_bench.results import Scores

    last = run.last
    assert isinstance(last, Scores)
    return Score(last.accuracy, last.nll, last.ece, last.agreement)
