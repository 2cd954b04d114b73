"""Do one work item: train a student, score it, write the result."""

from __future__ import annotations

import lightning as L
from torch import nn

from kd_bench.data.base import ClassificationData, open_data
from kd_bench.environment import describe_environment
from kd_bench.items import Item, ItemResult
from kd_bench.models import create_model
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.results import ProtocolRef, Run, StudentInfo
from kd_bench.rows import create_method
from kd_bench.storage import file_sha256, write_model
from kd_bench.teachers import LoadedTeacher, load_teacher
from kd_bench.training.evaluate import score, test_logits
from kd_bench.training.fit import Fitted, fit
from kd_bench.training.recorder import OnEpoch
from lightning_kd import Distillation, DistillationMethod


def run_item(item: Item, on_epoch: OnEpoch | None = None) -> ItemResult:
    """Train and score one student; the numbers depend on the item alone, not on what this process did before.

    Args:
        item: what to do. Its teacher is trained first if nobody has done so.
        on_epoch: called after every epoch of the student.

    Raises:
        UserError: if the protocol or a kept file is at fault.
        DivergedError: if the training loss stops being finite.
    """
    protocol = item.protocol
    data = open_data(protocol.data, protocol.student_recipe, item.seed)
    teacher = load_teacher(protocol, item.pair.teacher, item.output / "teachers")
    # from here on the seed rules: loading the teacher may have drawn random numbers
    L.seed_everything(item.seed, verbose=False)
    student = create_model(item.pair.student, num_classes=data.num_classes, in_channels=data.image_shape[0])
    parameters = _count(student)
    method = create_method(item.row)
    fitted = fit(
        student,
        protocol.student_recipe,
        data,
        accelerator=protocol.accelerator,
        callbacks=_distillation(item, method, teacher),
        on_epoch=on_epoch,
    )
    write_predictions(item.predictions, _predict(student, teacher, data))
    result = ItemResult(
        fingerprint=item.fingerprint,
        protocol=ProtocolRef(id=protocol.id, hash=protocol.hash),
        method=item.method,
        teacher=teacher.info,
        student=StudentInfo(name=item.pair.student, parameters=parameters),
        environment=describe_environment(),
        run=_run(item, fitted, _count(method)),
    )
    write_model(item.result, result)
    return result


def _distillation(item: Item, method: DistillationMethod | None, teacher: LoadedTeacher) -> list[L.Callback]:
    if method is None:
        return []
    return [Distillation(teacher.network, method, task_weight=item.row.task_weight)]


def _predict(student: nn.Module, teacher: LoadedTeacher, data: ClassificationData) -> Predictions:
    logits, labels = test_logits(student, data)
    teacher_logits, _ = test_logits(teacher.network, data)
    return Predictions.from_logits(logits, labels, teacher_logits)


def _run(item: Item, fitted: Fitted, extra_parameters: int) -> Run:
    # scored from the file, so that what is published and what is kept cannot differ
    return Run(
        seed=item.seed,
        last=score(read_predictions(item.predictions)),
        best=fitted.recorder.best,
        curve=fitted.recorder.curve,
        predictions_file=item.predictions.name,
        predictions_sha256=file_sha256(item.predictions),
        seconds=fitted.seconds,
        peak_memory_mb=fitted.peak_memory_mb,
        device=fitted.device,
        extra_parameters=extra_parameters,
    )


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
