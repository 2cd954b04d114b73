"""Train the student of a work item, with whoever teaches it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor, nn
from typing_extensions import override

from kd_bench.data.base import BenchmarkData, ClassificationData, TrainingNeeds, open_data
from kd_bench.fusion import create_strategy
from kd_bench.items import Item
from kd_bench.protocol import MethodRow
from kd_bench.rows import chooses_alpha, create_method
from kd_bench.tasks.registry import task_named
from kd_bench.training.checkpoints import Checkpoints, retried
from kd_bench.training.classifier import Classifier
from kd_bench.training.fit import Fitted, fit
from kd_bench.training.loggers import Curves
from kd_bench.training.recorder import OnEpoch
from lightning_kd import Distillation, DistillationMethod
from lightning_kd.callbacks import FusionRatio
from lightning_kd.methods.self_distillation import GuidedSelfDistillation, Validation, self_distil


@dataclass(frozen=True)
class TrainedStudent:
    """Outcome of :func:`train_student`.

    Attributes:
        network: what is deployed: evaluated and counted.
        trainings: all trainings that it took; the student's is the last.
        extra_parameters: parameters that were trained only for the distillation.
        chosen: hyper-parameters that were chosen on the validation split.
        taps: the layers whose features were compared, of student and teacher.
    """

    network: nn.Module
    trainings: tuple[Fitted, ...]
    extra_parameters: int
    chosen: dict[str, float]
    taps: tuple[tuple[str, str], ...] = ()


def train_student(
    item: Item, teacher: nn.Module, on_epoch: OnEpoch | None = None, *, curves: Curves | None = None, rank: int = 0
) -> TrainedStudent:
    """Train the student of an item; an interrupted training goes on where it was.

    Args:
        item: pair, method and seed.
        teacher: the pair's trained teacher; stays as it is.
        on_epoch: called after every epoch with the numbers of epochs done and planned in all trainings together.
        curves: gets the numbers of every epoch.
        rank: which of the processes this is that train the student together, if its protocol uses several devices.

    Raises:
        UserError: if the row makes no sense.
        DivergedError: if a training loss stops being finite.
    """
    checkpoints = Checkpoints(item.checkpoints, item.fingerprint, item.options.checkpoint_seconds)
    if item.protocol.trainer.channels_last:
        teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last)

    def train() -> TrainedStudent:
        return _train_student(item, teacher, _Trainings(item, checkpoints, on_epoch, curves, rank))

    return retried(train, checkpoints.remove)


def _train_student(item: Item, teacher: nn.Module, trainings: _Trainings) -> TrainedStudent:
    method = create_method(item.row)
    if chooses_alpha(item.row):
        assert isinstance(method, GuidedSelfDistillation)
        return _self_distil(item, method, teacher, trainings)
    data = trainings.open()
    generation = 2 if item.row.teacher == "previous" else 1
    trainings.planned = generation
    if generation == 2:
        teacher = trainings.run(_draw(item, data, teacher), data)
    student = _draw(item, data, teacher, generation)
    if method is None:
        return TrainedStudent(trainings.run(student, data), tuple(trainings.done), 0, {})
    peer = _peer(item, data, teacher) if method.trains_teacher else None
    data = trainings.open(_needs(item.row, method))
    distillation = Distillation(
        (peer or teacher) if method.needs_teacher else None,
        method,
        task_weight=item.row.task_weight,
        target=hard_labels if data.soft_targets else None,
    )
    student = trainings.run(student, data, [distillation, *_fusion(item.row, data)], method.deploy)
    deployed = method.deploy(student).to(next(student.parameters()).device)
    extra = _count_others(deployed, [method] if peer is None else [method, peer])
    return TrainedStudent(deployed, tuple(trainings.done), extra, {}, tuple(method.pairs))


def hard_labels(batch: tuple[Tensor, Tensor]) -> Tensor:
    """Class indices ``(B,)`` of a batch of mixed images: the class that each shows most of."""
    _, probabilities = batch
    return probabilities.argmax(-1)


def _peer(item: Item, data: BenchmarkData, teacher: nn.Module) -> nn.Module:
    """A network that trains along; new ones are drawn after the student, from the same seed."""
    if item.row.teacher == "scratch":
        return task_named(data.task).create(item.pair.teacher, data)
    if item.row.teacher == "student":
        return _start(item, data, teacher)
    return copy.deepcopy(teacher)


def _self_distil(
    item: Item, method: GuidedSelfDistillation, teacher: nn.Module, trainings: _Trainings
) -> TrainedStudent:
    """Two generations, and a student of the first alone from which the second's weight of the labels is estimated."""
    data = trainings.open()
    assert isinstance(data, ClassificationData)
    trainings.planned = 3

    def make_student(generation: int) -> Classifier:
        return Classifier(_draw(item, data, teacher, generation), item.recipe, data.num_classes, data.image_shape)

    def train(student: L.LightningModule, callbacks: list[L.Callback]) -> None:
        assert isinstance(student, Classifier)
        student.network = trainings.run(student.network, data, callbacks)

    _, last = self_distil(
        make_student,
        train,
        generations=2,
        alpha="auto",
        validation=Validation.from_batches(data.eval_dataloader("validation")),
        objective=method.objective,
        task_weight=item.row.task_weight,
        target=hard_labels if data.soft_targets else None,
    )
    assert isinstance(last.student, Classifier)
    return TrainedStudent(last.student.network, tuple(trainings.done), 0, {"alpha": last.alpha})


class _SharesBatches(L.Callback):
    """Gives this rank its part of the batches, once all ranks have seen the whole data in a method's setup pass."""

    def __init__(self, data: BenchmarkData, rank: int, world: int) -> None:
        self._data, self._rank, self._world = data, rank, world

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._data.set_ranks(self._rank, self._world)

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._data.set_ranks(0, 1)


class _Trainings:
    """The trainings of one item, one after the other, with a common progress.

    Attributes:
        done: those that are finished.
        planned: how many there will be.
    """

    def __init__(
        self, item: Item, checkpoints: Checkpoints, on_epoch: OnEpoch | None, curves: Curves | None, rank: int
    ) -> None:
        self.done: list[Fitted] = []
        self.planned = 1
        self._item, self._checkpoints = item, checkpoints
        self._on_epoch, self._curves, self._rank = on_epoch, curves, rank

    def open(self, needs: TrainingNeeds | None = None) -> BenchmarkData:
        """The item's data."""
        item, machine = self._item, self._item.protocol.trainer
        data = open_data(item.protocol.data, item.recipe, item.seed, needs)
        if machine.loader_workers is not None:
            data.loader_workers = machine.loader_workers
        return data

    def run(
        self,
        network: nn.Module,
        data: BenchmarkData,
        callbacks: Sequence[L.Callback] = (),
        deploy: Callable[[nn.Module], nn.Module] | None = None,
    ) -> nn.Module:
        """Train a network and return it."""
        devices = self._item.protocol.trainer.devices
        shares = [_SharesBatches(data, self._rank, devices)] if devices > 1 else []
        fitted = fit(
            network,
            self._item.recipe,
            data,
            accelerator=self._item.protocol.accelerator,
            machine=self._item.protocol.trainer,
            callbacks=[*callbacks, *shares],
            deploy=deploy,
            on_epoch=None if self._on_epoch is None else self._advance,
            log=self._log,
            checkpoint=self._checkpoints.of(len(self.done) + 1, self.planned),
        )
        self.done.append(fitted)
        return fitted.network

    def _advance(self, epoch: int, epochs: int) -> None:
        assert self._on_epoch is not None
        self._on_epoch(len(self.done) * epochs + epoch, self.planned * epochs)

    def _log(self, epoch: int, values: Mapping[str, float]) -> None:
        if self._curves is not None:
            training = len(self.done)
            self._curves.log(training * self._item.recipe.epochs + epoch, {"training": training + 1, **values})


def _needs(row: MethodRow, method: DistillationMethod) -> TrainingNeeds:
    return TrainingNeeds(indexed=method.needs_index, held_out=0.0 if row.fusion is None else row.fusion.hold_out)


def _draw(item: Item, data: BenchmarkData, teacher: nn.Module, generation: int = 1) -> nn.Module:
    """The student of a generation with its initial weights; the first is that of all methods without generations."""
    # from here on the seed rules, whatever drew random numbers before
    L.seed_everything(item.seed, verbose=False)
    return [_start(item, data, teacher) for _ in range(generation)][-1]


def _start(item: Item, data: BenchmarkData, teacher: nn.Module) -> nn.Module:
    name = item.pair.student
    return task_named(data.task).start(name, item.protocol.start_of(name), teacher, data)


def _fusion(row: MethodRow, data: BenchmarkData) -> list[L.Callback]:
    if row.fusion is None:
        return []
    held_out = data.held_out_dataloader() if row.fusion.hold_out else None
    return [FusionRatio(create_strategy(row.fusion, held_out))]


def _count_others(network: nn.Module, others: Iterable[nn.Module]) -> int:
    """Parameters of other modules that are not the network's as well."""
    own = {id(parameter) for parameter in network.parameters()}
    found = {id(parameter): parameter.numel() for module in others for parameter in module.parameters()}
    return sum(size for key, size in found.items() if key not in own)
