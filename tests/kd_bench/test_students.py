"""Who teaches a student, and how: every option of a row, trained for two epochs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kd_bench.students
import lightning as L
import pytest
import torch
from kd_bench.data.base import ClassificationData, open_data
from kd_bench.items import Item
from kd_bench.protocol import MethodRow, Protocol
from kd_bench.students import TrainedStudent, train_student
from kd_bench.teachers import LoadedTeacher, load_teacher
from kd_bench.training.evaluate import test_logits as logits_of
from kd_bench.training.fit import Fitted
from kd_bench.training.recorder import Recorder
from kd_bench.worker import run_item
from torch import Tensor, nn

from lightning_kd import Distillation

STUDENT, TEACHER = 6_274, 174_970
"""Parameters of the pair's networks."""

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output directory that the tests of this module share, for its teacher."""
    return tmp_path_factory.mktemp("output")


@pytest.fixture
def teacher(tiny: Protocol, place: Path) -> LoadedTeacher:
    return load_teacher(tiny, "mini_resnet14", place / "teachers")


def _item(tiny: Protocol, place: Path, **row: object) -> Item:
    made = MethodRow.model_validate(row) if row else MethodRow()
    name = "Mine" if row else "plain"
    return Item(tiny.model_copy(update={"methods": {name: made}}), "resnet14-cnn4", name, 0, place)


def _state(network: nn.Module) -> State:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _equal(first: State, second: State) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first | second)


@dataclass
class Fit:
    """Stands in for :func:`kd_bench.training.fit.fit`: keeps what it was given and trains nothing."""

    students: list[State] = field(default_factory=list)
    callbacks: list[list[L.Callback]] = field(default_factory=list)
    data: list[ClassificationData] = field(default_factory=list)

    def __call__(self, network: nn.Module, recipe: object, data: ClassificationData, **options: Any) -> Fitted:
        self.students.append(_state(network))
        self.callbacks.append(list(options["callbacks"]))
        self.data.append(data)
        return Fitted(network, Recorder(), 0.0, None, "cpu")

    @property
    def taught_by(self) -> nn.Module:
        """The teacher of the last training."""
        distillation = self.callbacks[-1][0]
        assert isinstance(distillation, Distillation)
        (teacher,) = distillation.engine.teachers
        return teacher.module


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Fit:
    fit = Fit()
    monkeypatch.setattr(kd_bench.students, "fit", fit)
    return fit


def _validation_accuracy(student: TrainedStudent) -> float:
    return student.trainings[-1].recorder.curve.validation_accuracy[-1]


def test_peers_are_new_networks_beside_the_usual_student(
    tiny: Protocol, place: Path, teacher: LoadedTeacher, untrained: Fit
) -> None:
    train_student(_item(tiny, place), teacher.network)
    train_student(_item(tiny, place, **{"class": "DML", "teacher": "student"}), teacher.network)
    copy = untrained.taught_by
    train_student(_item(tiny, place, **{"class": "KDCL", "teacher": "scratch"}), teacher.network)
    large = untrained.taught_by
    plain, *others = untrained.students
    assert all(_equal(plain, other) for other in others)
    assert sum(parameter.numel() for parameter in copy.parameters()) == STUDENT
    assert not _equal(_state(copy), plain)
    assert sum(parameter.numel() for parameter in large.parameters()) == TEACHER
    assert not _equal(_state(large), _state(teacher.network))


def test_a_peer_from_scratch_trains_along(
    tiny: Protocol, place: Path, teacher: LoadedTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers: list[tuple[nn.Module, State]] = []

    class Watched(Distillation):
        def __init__(self, teacher: nn.Module, *arguments: Any, **options: Any) -> None:
            peers.append((teacher, _state(teacher)))
            super().__init__(teacher, *arguments, **options)

    monkeypatch.setattr(kd_bench.students, "Distillation", Watched)
    found = train_student(_item(tiny, place, **{"class": "BDKD", "teacher": "scratch"}), teacher.network)
    ((peer, before),) = peers
    assert not any(torch.equal(before[name], value) for name, value in peer.named_parameters())
    assert found.extra_parameters == TEACHER
    assert len(found.trainings) == 1


def test_a_trained_teacher_that_trains_along_is_a_copy(tiny: Protocol, place: Path, teacher: LoadedTeacher) -> None:
    before = _state(teacher.network)
    train_student(_item(tiny, place, **{"class": "BDKD"}), teacher.network)
    assert _equal(_state(teacher.network), before)


def test_a_method_without_a_teacher_gets_none(
    tiny: Protocol, place: Path, teacher: LoadedTeacher, untrained: Fit
) -> None:
    train_student(_item(tiny, place, **{"class": "PSKD", "task_weight": 0.0}), teacher.network)
    ((distillation,),) = untrained.callbacks
    assert isinstance(distillation, Distillation)
    assert distillation.engine.teachers == []


def test_the_previous_generation_is_the_plain_student_of_the_seed(
    tiny: Protocol, place: Path, teacher: LoadedTeacher
) -> None:
    told: list[tuple[int, int]] = []
    plain = train_student(_item(tiny, place), teacher.network)
    item = _item(tiny, place, **{"class": "BornAgain", "teacher": "previous"})
    found = train_student(item, teacher.network, lambda epoch, epochs: told.append((epoch, epochs)))
    first, second = found.trainings
    assert first.recorder.curve == plain.trainings[0].recorder.curve
    assert second.recorder.curve != first.recorder.curve
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    result = run_item(item)
    assert result.run.seconds > 0
    assert result.run.curve == second.recorder.curve


def test_a_new_generation_starts_from_other_weights(
    tiny: Protocol, place: Path, teacher: LoadedTeacher, untrained: Fit
) -> None:
    train_student(_item(tiny, place, **{"class": "BornAgain", "teacher": "previous"}), teacher.network)
    previous, student = untrained.students
    assert not _equal(previous, student)
    assert _equal(_state(untrained.taught_by), previous)


def test_guided_self_distillation_chooses_the_weight_of_the_labels(
    tiny: Protocol, place: Path, teacher: LoadedTeacher
) -> None:
    told: list[tuple[int, int]] = []
    row = {"class": "GuidedSelfDistillation", "parameters": {"alpha": "auto"}, "task_weight": 0.0}
    item = _item(tiny, place, **row, teacher="previous")
    run = run_item(item, lambda epoch, epochs: told.append((epoch, epochs))).run
    assert list(run.chosen) == ["alpha"]
    assert 0 <= run.chosen["alpha"] <= 1
    assert told == [(epoch, 6) for epoch in range(1, 7)]
    stored = item.load()
    assert stored is not None
    assert stored.run.chosen == run.chosen
    found = train_student(item, teacher.network)
    plain = train_student(_item(tiny, place), teacher.network)
    first = found.trainings[0].recorder.curve
    assert first.train_loss == pytest.approx(plain.trainings[0].recorder.curve.train_loss, rel=1e-4)
    assert found.chosen == run.chosen


def test_a_fusion_takes_the_place_of_the_weights(tiny: Protocol, place: Path, teacher: LoadedTeacher) -> None:
    def losses(**row: object) -> tuple[float, ...]:
        return train_student(_item(tiny, place, **row), teacher.network).trainings[0].recorder.curve.train_loss

    def fused(ratio: float) -> tuple[float, ...]:
        return losses(**{"class": "KD", "fusion": {"class": "Fixed", "parameters": {"ratio": ratio}}})

    assert fused(0.0) == pytest.approx(losses(), rel=1e-4)
    mixed = losses(**{"class": "KD", "parameters": {"weight": 0.9}, "task_weight": 0.1})
    assert losses(
        **{"class": "KD", "parameters": {"weight": 1.0}, "fusion": {"class": "Fixed", "parameters": {"ratio": 0.9}}}
    ) == pytest.approx(mixed, rel=1e-4)
    assert losses(**{"class": "KD", "fusion": {"class": "WeightedSoftLabel"}}) != pytest.approx(fused(0.5), rel=1e-2)


def test_a_strategy_that_learns_gets_the_samples_that_are_held_out(
    tiny: Protocol, place: Path, teacher: LoadedTeacher
) -> None:
    fusion = {"class": "TrilateralGeometry", "parameters": {"warmup_epochs": 0}, "hold_out": 0.1}
    result = run_item(_item(tiny, place, **{"class": "KD", "fusion": fusion}))
    assert result.method.fusion is not None
    assert result.method.fusion.hold_out == 0.1
    assert len(result.run.curve.train_loss) == 2


def test_only_the_held_out_samples_are_left_out(
    tiny: Protocol, place: Path, teacher: LoadedTeacher, untrained: Fit
) -> None:
    fusion = {"class": "TrilateralGeometry", "hold_out": 0.1}
    train_student(_item(tiny, place, **{"class": "KD", "fusion": fusion}), teacher.network)
    train_student(_item(tiny, place, **{"class": "KD"}), teacher.network)
    less, whole = (data.train_dataloader().dataset for data in untrained.data)
    assert (len(less), len(whole)) == (809, 899)


def test_a_method_that_asks_for_indices_gets_them(tiny: Protocol, place: Path, teacher: LoadedTeacher) -> None:
    row = {"class": "CRD", "parameters": {"negatives": 16, "embedding_dim": 8}}
    found = train_student(_item(tiny, place, **row), teacher.network)
    assert found.extra_parameters == 32 * 8 + 8 + 64 * 8 + 8
    assert len(found.trainings[0].recorder.curve.train_loss) == 2


def test_what_a_method_deploys_is_evaluated_and_counted(tiny: Protocol, place: Path, teacher: LoadedTeacher) -> None:
    item = _item(tiny, place, **{"class": "SimKD", "task_weight": 0.0})
    found = train_student(item, teacher.network)
    data = open_data(tiny.data, tiny.student_recipe, 0)
    images, labels = next(iter(data.eval_dataloader("validation")))
    with torch.no_grad():
        right = (found.network.eval()(images).argmax(-1) == labels).sum().item()
    assert _validation_accuracy(found) == right / len(labels)
    logits, test_labels = logits_of(found.network, data)
    result = run_item(item)
    assert result.run.last.accuracy == pytest.approx((logits.argmax(-1) == test_labels).float().mean().item())
    assert result.student.parameters > STUDENT
    assert result.run.extra_parameters == 0
