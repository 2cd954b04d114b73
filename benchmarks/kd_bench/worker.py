"""Do one work item: train a student, score it, write the result."""

from __future__ import annotations

from torch import nn

from kd_bench.data.base import ClassificationData, open_data
from kd_bench.environment import describe_environment
from kd_bench.items import Item, ItemResult
from kd_bench.predictions import Predictions, read_predictions, write_predictions
from kd_bench.results import ProtocolRef, Run, StudentInfo
from kd_bench.storage import file_sha256, write_model
from kd_bench.students import TrainedStudent, train_student
from kd_bench.teachers import LoadedTeacher, load_teacher
from kd_bench.training.evaluate import score, test_logits
from kd_bench.training.recorder import OnEpoch


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
    data = open_data(protocol.data, item.recipe, item.seed)
    teacher = load_teacher(protocol, item.pair.teacher, item.output / "teachers")
    student = train_student(item, teacher.network, on_epoch)
    write_predictions(item.predictions, _predict(student.network, teacher, data))
    result = ItemResult(
        fingerprint=item.fingerprint,
        protocol=ProtocolRef(id=protocol.id, hash=protocol.hash),
        method=item.method,
        teacher=teacher.info,
        student=StudentInfo(name=item.pair.student, parameters=_count(student.network)),
        environment=describe_environment(),
        run=_run(item, student),
    )
    write_model(item.result, result)
    return result


def _predict(student: nn.Module, teacher: LoadedTeacher, data: ClassificationData) -> Predictions:
    logits, labels = test_logits(student, data)
    teacher_logits, _ = test_logits(teacher.network, data)
    return Predictions.from_logits(logits, labels, teacher_logits)


def _run(item: Item, student: TrainedStudent) -> Run:
    last = student.trainings[-1]
    memory = [training.peak_memory_mb for training in student.trainings if training.peak_memory_mb is not None]
    # scored from the file, so that what is published and what is kept cannot differ
    return Run(
        seed=item.seed,
        last=score(read_predictions(item.predictions)),
        best=last.recorder.best,
        curve=last.recorder.curve,
        predictions_file=item.predictions.name,
        predictions_sha256=file_sha256(item.predictions),
        seconds=sum(training.seconds for training in student.trainings),
        peak_memory_mb=max(memory, default=None),
        device=last.device,
        extra_parameters=student.extra_parameters,
        chosen=student.chosen,
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
