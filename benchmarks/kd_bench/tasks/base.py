"""What a task has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from kd_bench.data.base import BenchmarkData
from kd_bench.errors import UserError
from kd_bench.protocol import MethodRow, Start, TeacherSource, TrainerSpec
from kd_bench.recipe import Recipe
from kd_bench.results import (
    Best,
    Curve,
    DetectionCurve,
    DetectionScores,
    DetectionTeacherInfo,
    Scores,
    TeacherInfo,
)
from kd_bench.training.learner import Learner
from kd_bench.training.recorder import Recorder

Deploy = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Outcome:
    """What a run's result says about its student.

    Attributes:
        last: test scores after the last epoch.
        best: the best epoch, where every epoch is tested.
        curve: how training went.
    """

    last: Scores | DetectionScores
    best: Best | None
    curve: Curve | DetectionCurve


class Task(ABC):
    """A kind of problem."""

    @abstractmethod
    def create(self, name: str, data: BenchmarkData, **options: Any) -> nn.Module:
        """The network ``name`` for the data, with random weights unless ``options`` bring others."""

    @abstractmethod
    def obtain(self, name: str, source: TeacherSource, data: BenchmarkData) -> nn.Module:
        """A network with published weights.

        Raises:
            UserError: if they cannot be had or belong to another network.
        """

    def rebuild(self, name: str, source: TeacherSource | None, data: BenchmarkData) -> nn.Module:
        """A network for the weights of a teacher that was obtained from ``source`` (``None``: trained on the spot).

        Raises:
            UserError: if it cannot be had.
        """
        return self.create(name, data)

    def start(self, name: str, start: Start, teacher: nn.Module, data: BenchmarkData) -> nn.Module:
        """A student with its initial weights.

        Args:
            name: model name.
            start: where they come from.
            teacher: the pair's teacher, from which some may be inherited.
            data: what it is trained on.

        Raises:
            UserError: if it cannot start like this.
        """
        with downloads(f"students.{name}"):
            return self.create(name, data, **start.options)

    @abstractmethod
    def learner(
        self, network: nn.Module, recipe: Recipe, data: BenchmarkData, machine: TrainerSpec, deploy: Deploy | None
    ) -> Learner:
        """The LightningModule that trains ``network``.

        Args:
            network: what is trained.
            recipe: how.
            data: what on.
            machine: how the machine is used.
            deploy: from ``network`` to what is evaluated in its place.
        """

    @abstractmethod
    def outcome(
        self, network: nn.Module, teacher: nn.Module, data: BenchmarkData, recorder: Recorder, predictions: Path
    ) -> Outcome:
        """Test a trained student, write its predictions, and score what was written.

        Args:
            network: the student.
            teacher: the pair's teacher.
            data: with the test split.
            recorder: what the training left behind.
            predictions: file to write.
        """

    @abstractmethod
    def teacher_info(
        self, name: str, weights_sha256: str, network: nn.Module, data: BenchmarkData
    ) -> TeacherInfo | DetectionTeacherInfo:
        """Test a teacher and describe it.

        Args:
            name: model name.
            weights_sha256: hash of its file.
            network: the teacher.
            data: with the test split.
        """

    @abstractmethod
    def check_row(self, name: str, row: MethodRow, data: BenchmarkData) -> None:
        """Find out early whether a method can be run on the task.

        Raises:
            UserError: if not.
        """


@contextmanager
def downloads(what: str) -> Iterator[None]:
    """A block in which a library may download weights.

    Args:
        what: whose weights.

    Raises:
        UserError: if they cannot be downloaded.
    """
    try:
        yield
    except URLError as error:
        raise UserError(
            f"{what}: the weights cannot be downloaded ({error.reason}). Run it once where there is a network, or put "
            f"the file that the log names into {Path(torch.hub.get_dir()) / 'checkpoints'}."
        ) from error


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
