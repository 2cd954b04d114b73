"""The contract catches methods that break it, and says how."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_kd.methods import KD, DistillationMethod
from lightning_kd.methods.logits import kd_loss
from lightning_kd.testing import CHECKS, run_contract


def problems(factory):
    return {result.name: result.problem for result in run_contract(factory) if not result.passed}


class Method(DistillationMethod):
    """Squared difference of the logits."""

    def forward(self, exchange):
        return self.distance(exchange.student.logits.float(), exchange.teacher.logits.detach().float())

    def distance(self, student, teacher):
        if student.shape != teacher.shape:
            raise ValueError(f"the logits must have one shape, got {student.shape} and {teacher.shape}")
        return (student - teacher).square().mean()


class Attached(Method):
    def forward(self, exchange):
        return self.distance(exchange.student.logits.float(), exchange.teacher.logits.float())


class NotScalar(Method):
    def distance(self, student, teacher):
        return (student - teacher).square()


class NotFinite(Method):
    def distance(self, student, teacher):
        return super().distance(student, teacher) + torch.nan


class SwallowsStudent(Method):
    def distance(self, student, teacher):
        return super().distance(student.detach(), teacher) + 0 * student.sum()


class Random(Method):
    def distance(self, student, teacher):
        noise = torch.rand((), generator=torch.Generator().manual_seed(id(self) % 10_000))
        return super().distance(student, teacher) * (1 + noise)


class Reversed(Method):
    def distance(self, student, teacher):
        distance = super().distance(student, teacher)
        return 2 * distance.detach() - distance


class Half(Method):
    def forward(self, exchange):
        return self.distance(exchange.student.logits, exchange.teacher.logits.detach())


class Unguarded(Method):
    def distance(self, student, teacher):
        return (student - teacher).square().mean()


class PlainState(Method):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def distance(self, student, teacher):
        self.calls += 1
        return super().distance(student, teacher) * self.calls


class IdleParameter(Method):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class Unpicklable(Method):
    def __init__(self):
        super().__init__()
        self.scale = lambda x: 2 * x


class NotSmooth(Method):
    def distance(self, student, teacher):
        return super().distance(student, teacher).sqrt()


def test_a_sound_method_passes_every_check():
    assert problems(Method) == {}
    assert problems(KD) == {}


@pytest.mark.parametrize(
    ("method", "check", "diagnosis"),
    [
        (Attached, "teacher untouched", "detach the teacher"),
        (NotScalar, "scalar", r"must return a scalar tensor, got shape \(8, 5\)"),
        (NotFinite, "scalar", "the loss is nan"),
        (SwallowsStudent, "gradients", "no gradient reaches the student"),
        (Random, "deterministic", "equal seeds give"),
        (Reversed, "learns", "took the loss from"),
        (Half, "half precision", "at least float32"),
        (Unguarded, "refusals", "fails with RuntimeError"),
        (PlainState, "state dict", "plain attributes"),
        (IdleParameter, "gradients", "take no part in the loss"),
        (Unpicklable, "copies", "cannot be pickled"),
        (NotSmooth, "perfect student", "is not finite"),
    ],
)
def test_a_broken_method_is_diagnosed(method, check, diagnosis):
    with pytest.raises(AssertionError, match=diagnosis):
        CHECKS[check](method, "images")


def test_a_method_that_raises_gets_its_exception_as_the_diagnosis():
    class Raises(Method):
        def distance(self, student, teacher):
            raise KeyError("layer9")

    assert problems(Raises)["scalar"] == "KeyError: 'layer9'"


def test_a_missing_teacher_must_be_refused():
    class Ignores(Method):
        def forward(self, exchange):
            return kd_loss(exchange.student.logits, torch.zeros_like(exchange.student.logits))

    with pytest.raises(AssertionError, match="declares that it needs it"):
        CHECKS["refusals"](Ignores, "images")
