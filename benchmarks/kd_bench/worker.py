"""Do one work item: train a student, score it, write the result."""

from __future__ import annotations

from kd_bench.data.base import open_data
from kd_bench.environment import describe_environment
from kd_bench.items import Item, ItemResult
from kd_bench.method_copy import check_unchanged, copy_beside_results
from kd_bench.protocol import TrainerSpec
from kd_bench.results import ProtocolRef, Run, StudentInfo
from kd_bench.storage import file_sha256, write_model
from kd_bench.students import TrainedStudent, train_student
from kd_bench.tasks.base import Outcome, count_parameters
from kd_bench.tasks.registry import task_named
from kd_bench.teachers import LoadedTeacher, load_teacher
from kd_bench.training.checkpoints import Checkpoints
from kd_bench.training.loggers import open_curves
from kd_bench.training.machine import check_hardware, check_machine
from kd_bench.training.ranks import run_on_ranks
from kd_bench.training.recorder import OnEpoch
from kd_bench.weights import keep_weights


def run_item(item: Item, on_epoch: OnEpoch | None = None) -> ItemResult:
    """Train and score one student; the numbers depend on the item alone, not on what this process did before.

    An interrupted training goes on from its last checkpoint. With several devices, it is done by as many processes,
    which this one starts.

    Args:
        item: what to do. Its teacher is trained first if nobody has done so.
        on_epoch: called after every epoch of the student.

    Raises:
        UserError: if the protocol or a kept file is at fault.
        DivergedError: if the training loss stops being finite.
    """
    machine = item.protocol.trainer
    check_machine(machine, item.protocol.accelerator, item.recipe.batch_size, item.row)
    check_hardware(machine, item.protocol.accelerator)
    teacher = _teacher(item)
    if machine.devices == 1:
        return _do(item, teacher, on_epoch)
    run_on_ranks(item, on_epoch)
    result = item.load()
    assert result is not None
    return result


def run_rank(item: Item, rank: int, on_epoch: OnEpoch) -> None:
    """Be one of the processes that do an item together; its teacher is there already.

    Args:
        item: what to do.
        rank: number of this process; the first one scores the student and writes the result.
        on_epoch: called after every epoch of the student.
    """
    teacher = _teacher(item)
    if rank == 0:
        _do(item, teacher, on_epoch)
    else:
        train_student(item, teacher.network, rank=rank)


def _teacher(item: Item) -> LoadedTeacher:
    return load_teacher(
        item.protocol,
        item.pair.teacher,
        item.output / "teachers",
        checkpoint_seconds=item.options.checkpoint_seconds,
    )


def _do(item: Item, teacher: LoadedTeacher, on_epoch: OnEpoch | None) -> ItemResult:
    check_unchanged(item)
    data = open_data(item.protocol.data, item.recipe, item.seed)
    with open_curves(item) as curves:
        student = train_student(item, teacher.network, on_epoch, curves=curves)
    outcome = task_named(item.protocol.task).outcome(
        student.network, teacher.network, data, student.trainings[-1].recorder, item.predictions
    )
    copy_beside_results(item)
    weights_sha256 = keep_weights(student.network, item.weights) if item.options.keep_weights else None
    result = ItemResult(
        fingerprint=item.fingerprint,
        protocol=ProtocolRef(id=item.protocol.id, hash=item.protocol.hash),
        method=item.method,
        teacher=teacher.info,
        student=StudentInfo(name=item.pair.student, parameters=count_parameters(student.network)),
        environment=describe_environment(),
        run=_run(item, student, outcome, weights_sha256),
    )
    write_model(item.result, result)
    Checkpoints(item.checkpoints, item.fingerprint, 0).remove()
    return result


def _run(item: Item, student: TrainedStudent, outcome: Outcome, weights_sha256: str | None) -> Run:
    training = student.trainings[-1]
    memory = [each.peak_memory_mb for each in student.trainings if each.peak_memory_mb is not None]
    return Run(
        seed=item.seed,
        last=outcome.last,
        best=outcome.best,
        curve=outcome.curve,
        predictions_file=item.predictions.name,
        predictions_sha256=file_sha256(item.predictions),
        seconds=sum(each.seconds for each in student.trainings),
        peak_memory_mb=max(memory, default=None),
        device=training.device,
        extra_parameters=student.extra_parameters,
        chosen=student.chosen,
        taps=student.taps,
        trainer=_differences(item.protocol.trainer),
        weights_sha256=weights_sha256,
    )


def _differences(machine: TrainerSpec) -> dict[str, str | int | bool | None]:
    """How the machine was used, as far as that is not the default."""
    default = TrainerSpec().model_dump()
    return {name: value for name, value in machine.model_dump().items() if value != default[name]}
