"""Classification of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from typing_extensions import override

from kd_bench.data.base import BenchmarkData, ClassificationData
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.models.checkpoints import load_teacher as load_checkpoint
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.protocol import MethodRow, Start, TeacherSource, TrainerSpec
from kd_bench.recipe import Recipe
from kd_bench.results import Best, Scores, TeacherInfo
from kd_bench.tasks.base import Deploy, Outcome, Task, count_parameters, downloads
from kd_bench.training.classifier import Classifier, ShardedClassifier
from kd_bench.training.evaluate import score, test_logits
from kd_bench.training.machine import FSDP
from kd_bench.training.recorder import Recorder


class Classification(Task):
    """One class an image; ranked by accuracy."""

    @override
    def create(self, name: str, data: BenchmarkData, **options: Any) -> nn.Module:
        assert isinstance(data, ClassificationData)
        return create_model(name, num_classes=data.num_classes, in_channels=data.image_shape[0], **options)

    @override
    def obtain(self, name: str, source: TeacherSource, data: BenchmarkData) -> nn.Module:
        assert isinstance(data, ClassificationData)
        if source.source is None:
            with downloads(f"teachers.{name}"):
                return self.create(name, data, **source.options)
        return load_checkpoint(
            name,
            source.source,
            num_classes=data.num_classes,
            in_channels=data.image_shape[0],
            sha256=source.sha256,
        )

    @override
    def start(self, name: str, start: Start, teacher: nn.Module, data: BenchmarkData) -> nn.Module:
        if start.inherits:
            raise UserError(f"students.{name}: only detectors inherit from their teacher; leave inherits out")
        return super().start(name, start, teacher, data)

    @override
    def learner(
        self, network: nn.Module, recipe: Recipe, data: BenchmarkData, machine: TrainerSpec, deploy: Deploy | None
    ) -> Classifier:
        assert isinstance(data, ClassificationData)
        make: type[Classifier] = ShardedClassifier if machine.strategy == FSDP else Classifier
        return make(
            network,
            recipe,
            data.num_classes,
            data.image_shape,
            deploy,
            splits=data.splits(),
            channels_last=machine.channels_last,
        )

    @override
    def outcome(
        self, network: nn.Module, teacher: nn.Module, data: BenchmarkData, recorder: Recorder, predictions: Path
    ) -> Outcome:
        logits, labels = test_logits(network, data)
        teacher_logits, _ = test_logits(teacher.to(next(network.parameters()).device), data)
        write_predictions(predictions, Predictions.from_logits(logits, labels, teacher_logits))
        # scored from the file, so that what is published and what is kept cannot differ
        last = score(read_predictions(predictions))
        return Outcome(last, _best(recorder, last), recorder.curve)

    @override
    def teacher_info(self, name: str, weights_sha256: str, network: nn.Module, data: BenchmarkData) -> TeacherInfo:
        logits, labels = test_logits(network, data)
        return TeacherInfo(
            name=name,
            weights_sha256=weights_sha256,
            accuracy=int((logits.argmax(-1) == labels).sum()) / len(labels),
            parameters=count_parameters(network),
        )

    @override
    def check_row(self, name: str, row: MethodRow, data: BenchmarkData) -> None:
        if data.soft_targets and row.fusion is not None:
            raise UserError(
                f"{name} weighs the loss sample by sample (fusion), which takes labels, but the recipe of the student "
                "mixes images (augmentation mixup or cutmix); they do not go together"
            )


def _best(recorder: Recorder, last: Scores) -> Best:
    """The best epoch; after the last one, the final evaluation counts, which may be more precise than those before."""
    best = recorder.best
    if best.accuracy >= last.accuracy:
        return best
    return Best(accuracy=last.accuracy, epoch=len(recorder.curve.train_loss) - 1)
