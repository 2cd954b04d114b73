"""What a task has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kd_bench.data.base import BenchmarkData
from kd_bench.protocol import MethodRow, TeacherSource, TrainerSpec
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


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
