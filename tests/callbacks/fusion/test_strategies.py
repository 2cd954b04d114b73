"""Every strategy against a calculation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_kd import Exchange, Progress, View
from lightning_kd.callbacks.fusion import (
    Fixed,
    FusionRatio,
    FusionStep,
    FusionStrategy,
    LinearAnneal,
    RandomWeights,
    TeacherConfidence,
    TrilateralGeometry,
    WeightedSoftLabel,
)

STUDENT = torch.tensor([[1.0, 1.5, -0.5, 0.2], [1.0, -0.2, 0.0, 0.5], [0.0, 0.5, 2.0, -1.0]])
TEACHER = torch.tensor([[2.0, 0.5, -1.0, 0.0], [0.1, 0.2, 0.3, -0.4], [-1.0, 3.0, 1.0, 0.5]])
LABELS = torch.tensor([0, 2, 1])


def make_step(
    student: Tensor = STUDENT, teacher: Tensor | list[Tensor] | None = TEACHER, rank: int = 0, **progress: int
) -> FusionStep:
    teachers = [] if teacher is None else teacher if isinstance(teacher, list) else [teacher]
    exchange = Exchange(
        inputs=(),
        target=LABELS,
        student=View(student),
        teachers=[View(t) for t in teachers],
        progress=Progress(**progress),
    )
    return FusionStep.of(exchange, torch.tensor([1.0, 2.0, 3.0]), rank)


def probability(logits: Tensor, label: int) -> float:
    exponentials = [math.exp(value) for value in logits.tolist()]
    return exponentials[label] / sum(exponentials)


def test_fixed() -> None:
    assert Fixed(0.2).alpha(make_step()).tolist() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize(("epoch", "ratio"), [(0, 1.0), (99, 100 / 199), (199, 0.0), (250, 0.0)])
def test_linear_anneal_is_the_published_schedule(epoch: int, ratio: float) -> None:
    alpha = LinearAnneal().alpha(make_step(epoch=epoch, max_epochs=200))
    assert alpha.tolist() == pytest.approx([ratio] * 3, abs=1e-6)


def test_linear_anneal_between_other_ends() -> None:
    assert LinearAnneal(0.8, 0.4, epochs=3).alpha(make_step(epoch=1))[0].item() == pytest.approx(0.6)
    assert LinearAnneal(epochs=1).alpha(make_step(epoch=0))[0].item() == 1.0
    with pytest.raises(ValueError, match="pass epochs="):
        LinearAnneal().alpha(make_step())


def test_weighted_soft_label() -> None:
    expected = []
    for student, teacher, label in zip(STUDENT, TEACHER, LABELS.tolist(), strict=True):
        ratio = math.log(probability(student, label)) / math.log(probability(teacher, label))
        expected.append(1 - math.exp(-ratio))
    assert WeightedSoftLabel().alpha(make_step()).tolist() == pytest.approx(expected, rel=1e-5)


def test_weighted_soft_label_of_networks_without_error() -> None:
    certain = torch.tensor([[1e4, 0.0, 0.0, 0.0], [0.0, 0.0, 1e4, 0.0], [0.0, 1e4, 0.0, 0.0]])
    assert WeightedSoftLabel().alpha(make_step(certain, certain)).tolist() == [0.0, 0.0, 0.0]
    assert WeightedSoftLabel().alpha(make_step(-certain, certain)).tolist() == [1.0, 1.0, 1.0]


def test_teacher_confidence() -> None:
    expected = [probability(teacher, label) for teacher, label in zip(TEACHER, LABELS.tolist(), strict=True)]
    assert TeacherConfidence().alpha(make_step()).tolist() == pytest.approx(expected, rel=1e-5)
    scaled = [0.2 + 0.5 * value for value in expected]
    assert TeacherConfidence(0.2, 0.7).alpha(make_step()).tolist() == pytest.approx(scaled, rel=1e-5)
    soft = TeacherConfidence(temperature=2.0).alpha(make_step())
    assert soft[0].item() == pytest.approx(probability(TEACHER[0] / 2, 0), rel=1e-5)


def test_several_teachers_count_as_their_mean_prediction() -> None:
    second = TEACHER.flip(1)
    expected = (TEACHER.softmax(-1) + second.softmax(-1)) / 2
    step = make_step(teacher=[TEACHER, second])
    torch.testing.assert_close(step.teacher_logits.softmax(-1), expected)


def test_random_weights_repeat_and_resume() -> None:
    state = torch.get_rng_state()
    strategy = RandomWeights(seed=3)
    draws = [strategy.alpha(make_step()) for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert len({value for draw in draws for value in draw.tolist()}) == 12
    assert all(0.0 <= value < 1.0 for draw in draws for value in draw.tolist())

    again = RandomWeights(seed=3)
    assert all(torch.equal(again.alpha(make_step()), draw) for draw in draws[:2])
    resumed = RandomWeights(seed=3)
    resumed.load_state_dict(again.state_dict())
    assert all(torch.equal(resumed.alpha(make_step()), draw) for draw in draws[2:])
    assert not torch.equal(RandomWeights(seed=4).alpha(make_step()), draws[0])
    assert not torch.equal(RandomWeights(seed=3).alpha(make_step(rank=1)), draws[0])


@pytest.mark.parametrize("strategy", [Fixed(0.3), WeightedSoftLabel(), TeacherConfidence(), RandomWeights(1)])
def test_fuse_is_the_mean_over_samples(strategy: FusionStrategy) -> None:
    student = STUDENT.clone().requires_grad_()
    exchange = Exchange(inputs=(), target=LABELS, student=View(student), teachers=[View(TEACHER)])
    distillation = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    alpha = strategy.alpha(make_step())
    strategy.load_state_dict({"draws": 0})
    loss = FusionRatio(strategy).fuse(exchange, distillation)
    by_hand = 0.0
    for i in range(3):
        task = -math.log(probability(STUDENT[i], int(LABELS[i])))
        by_hand += (alpha[i].item() * (i + 1) + (1 - alpha[i].item()) * task) / 3
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(distillation.grad, alpha / 3)
    expected = (1 - alpha)[:, None] * (STUDENT.softmax(-1) - torch.nn.functional.one_hot(LABELS, 4)) / 3
    torch.testing.assert_close(student.grad, expected)


def test_half_precision_logits_are_raised() -> None:
    step = make_step(STUDENT.bfloat16(), TEACHER.bfloat16())
    assert step.task.dtype is step.teacher_logits.dtype is step.student_logits.dtype is torch.float32


class Column(FusionStrategy):
    def alpha(self, step: FusionStep) -> Tensor:
        return torch.full((len(step.task), 1), 0.5)


def test_shapes_are_checked() -> None:
    exchange = Exchange(inputs=(), target=LABELS, student=View(STUDENT), teachers=[View(TEACHER)])
    ratio = FusionRatio(0.5)
    with pytest.raises(ValueError, match=r"distillation losses .* shape \(3,\), got \(3, 1\)"):
        ratio.fuse(exchange, torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"distillation losses .* got \(\)"):
        ratio.fuse(exchange, torch.ones(()))
    with pytest.raises(ValueError, match=r"ratios of Column .* got \(3, 1\)"):
        FusionRatio(Column()).fuse(exchange, torch.ones(3))
    exchange.target = torch.rand(3, 4)
    with pytest.raises(ValueError, match="class indices"):
        ratio.fuse(exchange, torch.ones(3))
    exchange.student = View(torch.ones(3, 2, 4))
    with pytest.raises(ValueError, match=r"\(B, C\), got \(3, 2, 4\)"):
        ratio.fuse(exchange, torch.ones(3))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        FusionRatio(1.5)
    with pytest.raises(TypeError, match="a class; instantiate it"):
        FusionRatio(LinearAnneal)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        LinearAnneal(epochs=0)
    with pytest.raises(ValueError, match="unroll must be one of last_layer, jvp, full, got 'half'"):
        TrilateralGeometry(unroll="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="features must be one of"):
        TrilateralGeometry(features="sides")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every must be at least 1"):
        TrilateralGeometry(every=0)
    with pytest.raises(ValueError, match="share of held-out samples"):
        TrilateralGeometry(fraction=1.0)
    with pytest.raises(ValueError, match="temperature"):
        TeacherConfidence(temperature=0.0)
    with pytest.raises(NotImplementedError, match="must implement alpha"):
        FusionStrategy().alpha(make_step())


def test_no_teacher_is_named() -> None:
    assert Fixed(0.5).alpha(make_step(teacher=None)).shape == (3,)
    with pytest.raises(ValueError, match="needs a teacher"):
        TeacherConfidence().alpha(make_step(teacher=None))
