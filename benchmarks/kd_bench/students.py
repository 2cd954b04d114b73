"""Train the student of a work item, with whoever teaches it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import lightning as L
from torch import nn

from kd_bench.data.base import ClassificationData, TrainingNeeds, open_data
from kd_bench.fusion import create_strategy
from kd_bench.items import Item
from kd_bench.models import create_model
from kd_bench.protocol import MethodRow
from kd_bench.rows import chooses_alpha, create_method
from kd_bench.training.classifier import Classifier
from kd_bench.training.fit import Fitted, fit
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
    """

    network: nn.Module
    trainings: tuple[Fitted, ...]
    extra_parameters: int
    chosen: dict[str, float]


def train_student(item: Item, teacher: nn.Module, on_epoch: OnEpoch | None = None) -> TrainedStudent:
    """Train the student of an item.

    Args:
        item: pair, method and seed.
        teacher: the pair's trained teacher; stays as it is.
        on_epoch: called after every epoch with the numbers of epochs done and planned in all trainings together.

    Raises:
        UserError: if the row makes no sense.
        DivergedError: if a training loss stops being finite.
    """
    method = create_method(item.row)
    if chooses_alpha(item.row):
        assert isinstance(method, GuidedSelfDistillation)
        return _self_distil(item, method, on_epoch)
    data = _open(item)
    generation = 2 if item.row.teacher == "previous" else 1
    trainings = _Trainings(item, generation, on_epoch)
    if generation == 2:
        teacher = _draw(item, data)
        trainings.run(teacher, data)
    student = _draw(item, data, generation)
    if method is None:
        trainings.run(student, data)
        return TrainedStudent(student, tuple(trainings.done), 0, {})
    peer = _peer(item, data, teacher) if method.trains_teacher else None
    distillation = Distillation(
        (peer or teacher) if method.needs_teacher else None, method, task_weight=item.row.task_weight
    )
    data = _open(item, _needs(item.row, method))
    trainings.run(student, data, [distillation, *_fusion(item.row, data)], method.deploy)
    deployed = method.deploy(student).to(next(student.parameters()).device)
    extra = _count_others(deployed, [method] if peer is None else [method, peer])
    return TrainedStudent(deployed, tuple(trainings.done), extra, {})


def _peer(item: Item, data: ClassificationData, teacher: nn.Module) -> nn.Module:
    """A network that trains along; new ones are drawn after the student, from the same seed."""
    if item.row.teacher == "scratch":
        return _create(item.pair.teacher, data)
    if item.row.teacher == "student":
        return _create(item.pair.student, data)
    return copy.deepcopy(teacher)


def _self_distil(item: Item, method: GuidedSelfDistillation, on_epoch: OnEpoch | None) -> TrainedStudent:
    """Two generations, and a student of the first alone from which the second's weight of the labels is estimated."""
    data = _open(item)
    trainings = _Trainings(item, 3, on_epoch)

    def make_student(generation: int) -> Classifier:
        return trainings.wrap(_draw(item, data, generation), data)

    def train(student: L.LightningModule, callbacks: list[L.Callback]) -> None:
        assert isinstance(student, Classifier)
        trainings.run(student.network, data, callbacks)

    _, last = self_distil(
        make_student,
        train,
        generations=2,
        alpha="auto",
        validation=Validation.from_batches(data.eval_dataloader("validation")),
        objective=method.objective,
        task_weight=item.row.task_weight,
    )
    assert isinstance(last.student, Classifier)
    return TrainedStudent(last.student.network, tuple(trainings.done), 0, {"alpha": last.alpha})


class _Trainings:
    """The trainings of one item, one after the other, with a common progress."""

    def __init__(self, item: Item, planned: int, on_epoch: OnEpoch | None) -> None:
        self.done: list[Fitted] = []
        self._item, self._planned, self._on_epoch = item, planned, on_epoch

    def run(
        self,
        network: nn.Module,
        data: ClassificationData,
        callbacks: Sequence[L.Callback] = (),
        deploy: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self.done.append(
            fit(
                network,
                self._item.recipe,
                data,
                accelerator=self._item.protocol.accelerator,
                callbacks=callbacks,
                deploy=deploy,
                on_epoch=None if self._on_epoch is None else self._advance,
            )
        )

    def wrap(self, network: nn.Module, data: ClassificationData) -> Classifier:
        return Classifier(network, self._item.recipe, data.num_classes, data.image_shape)

    def _advance(self, epoch: int, epochs: int) -> None:
        assert self._on_epoch is not None
        self._on_epoch(len(self.done) * epochs + epoch, self._planned * epochs)


def _open(item: Item, needs: TrainingNeeds | None = None) -> ClassificationData:
    return open_data(item.protocol.data, item.recipe, item.seed, needs)


def _needs(row: MethodRow, method: DistillationMethod) -> TrainingNeeds:
    return TrainingNeeds(indexed=method.needs_index, held_out=0.0 if row.fusion is None else row.fusion.hold_out)


def _draw(item: Item, data: ClassificationData, generation: int = 1) -> nn.Module:
    """The student of a generation with its initial weights; the first is that of all methods without generations."""
    # from here on the seed rules, whatever drew random numbers before
    L.seed_everything(item.seed, verbose=False)
    return [_create(item.pair.student, data) for _ in range(generation)][-1]


def _create(name: str, data: ClassificationData) -> nn.Module:
    return create_model(name, num_classes=data.num_classes, in_channels=data.image_shape[0])


def _fusion(row: MethodRow, data: ClassificationData) -> list[L.Callback]:
    if row.fusion is None:
        return []
    held_out = data.held_out_dataloader() if row.fusion.hold_out else None
    return [FusionRatio(create_strategy(row.fusion, held_out))]


def _count_others(network: nn.Module, others: Iterable[nn.Module]) -> int:
    """Parameters of other modules that are not the network's as well."""
    own = {id(parameter) for parameter in network.parameters()}
    found = {id(parameter): parameter.numel() for module in others for parameter in module.parameters()}
    return sum(size for key, size in found.items() if key not in own)
