"""Detection of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from kd_bench.data.base import BenchmarkData
from kd_bench.detection.data import DetectionData
from kd_bench.detection.detections import Detections, concatenate, read_detections, write_detections
from kd_bench.detection.evaluate import evaluate
from kd_bench.detection.inherit import inherit
from kd_bench.detection.models import MMDET, create_network
from kd_bench.errors import UserError
from kd_bench.layout import TEACHER_DETECTIONS
from kd_bench.models.checkpoints import locate
from kd_bench.protocol import MethodRow, Start, TeacherSource, TrainerSpec
from kd_bench.recipe import Recipe
from kd_bench.results import DetectionScores, DetectionTeacherInfo
from kd_bench.tasks.base import Deploy, Outcome, Task, count_parameters, downloads
from kd_bench.training.detector import DetectorLearner, detect
from kd_bench.training.recorder import Recorder


class Detection(Task):
    """Boxes with classes; ranked by COCO's AP."""

    @override
    def create(self, name: str, data: BenchmarkData, **options: Any) -> nn.Module:
        assert isinstance(data, DetectionData)
        if data.scale is not None:
            options = {"min_size": data.scale[0], "max_size": data.scale[1], **options}
        return create_network(name, data.categories.torchvision_classes(data.numbering), **options)

    @override
    def obtain(self, name: str, source: TeacherSource, data: BenchmarkData) -> nn.Module:
        if source.source is None:
            with downloads(f"teachers.{name}"):
                return self.create(name, data, **source.options)
        if not name.startswith(MMDET):
            raise UserError(
                f"teachers.{name}: the weights of torchvision's detectors come from torchvision, by options such as "
                "weights, not from a file"
            )
        path, _ = locate(source.source, source.sha256)
        return self.create(name, data, checkpoint=str(path), **source.options)

    @override
    def rebuild(self, name: str, source: TeacherSource | None, data: BenchmarkData) -> nn.Module:
        # what torchvision brings weights for is built differently with them: batch normalization is frozen
        with downloads(f"teachers.{name}"):
            return self.create(name, data, **(source.options if source is not None else {}))

    @override
    def start(self, name: str, start: Start, teacher: nn.Module, data: BenchmarkData) -> nn.Module:
        student = super().start(name, start, teacher, data)
        if start.inherits:
            inherit(student, teacher)
        return student

    @override
    def learner(
        self, network: nn.Module, recipe: Recipe, data: BenchmarkData, machine: TrainerSpec, deploy: Deploy | None
    ) -> DetectorLearner:
        assert isinstance(data, DetectionData)
        return DetectorLearner(network, recipe, data)

    @override
    def outcome(
        self, network: nn.Module, teacher: nn.Module, data: BenchmarkData, recorder: Recorder, predictions: Path
    ) -> Outcome:
        assert isinstance(data, DetectionData)
        write_detections(predictions, _detect_all(network, data))
        teachers = predictions.with_name(TEACHER_DETECTIONS)
        if not teachers.exists():
            write_detections(teachers, _detect_all(teacher.to(next(network.parameters()).device), data))
        # scored from the file, so that what is published and what is kept cannot differ
        truth = data.truth("test")
        return Outcome(_scores(read_detections(predictions, truth), data), None, recorder.precision_curve)

    @override
    def teacher_info(
        self, name: str, weights_sha256: str, network: nn.Module, data: BenchmarkData
    ) -> DetectionTeacherInfo:
        assert isinstance(data, DetectionData)
        return DetectionTeacherInfo(
            name=name,
            weights_sha256=weights_sha256,
            ap=_scores(_detect_all(network, data), data).ap,
            parameters=count_parameters(network),
            truth_sha256=data.truth("test").checksum(),
        )

    @override
    def check_row(self, name: str, row: MethodRow, data: BenchmarkData) -> None:
        if row.fusion is not None:
            raise UserError(
                f"{name} weighs losses sample by sample (fusion), which detectors do not have; leave it out"
            )
        if row.teacher != "trained":
            raise UserError(
                f"{name} asks for a teacher {row.teacher!r}; detectors are taught by the pair's teacher only"
            )


def _detect_all(network: nn.Module, data: DetectionData) -> Detections:
    """Everything that a network finds on the test images; it is put into eval mode."""
    device = next(network.parameters()).device
    network.eval()
    found = []
    with torch.no_grad():
        for images, targets in data.test_dataloader():
            found.append(detect(network, ([image.to(device) for image in images], targets), data))
    return concatenate(found)


def _scores(found: Detections, data: DetectionData) -> DetectionScores:
    metrics = evaluate(data.truth("test"), found)
    return DetectionScores(**{name: getattr(metrics, name) for name in DetectionScores.model_fields})
