"""Fixtures for the feature methods: comparison with a reference, and methods built on given features."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from lightning_kd.engine.exchange import BuildContext, Exchange, Progress, View
from lightning_kd.methods.base import DistillationMethod


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def maps() -> Callable[..., list[Tensor]]:
    """Random float64 features of the given shapes, the student's with ``grad=True``."""

    def make(*shapes: tuple[int, ...], grad: bool = False, scale: float = 1.0) -> list[Tensor]:
        return [(scale * torch.randn(shape, dtype=torch.float64)).requires_grad_(grad) for shape in shapes]

    return make


@pytest.fixture
def agree() -> Callable[..., None]:
    """Compare two losses and their gradients with respect to some tensors."""

    def check(ours: Tensor, reference: Tensor, inputs: Sequence[Tensor], tolerance: float = 1e-9) -> None:
        torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)
        gradients = torch.autograd.grad(ours, inputs), torch.autograd.grad(reference, inputs)
        for actual, expected in zip(*gradients, strict=True):
            assert expected.any()
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())

    return check


def make_exchange(
    student: Sequence[Tensor], teacher: Sequence[Tensor], target: Tensor | None = None, logits: Tensor | None = None
) -> Exchange:
    batch = student[0].shape[0]
    target = torch.arange(batch) % 3 if target is None else target
    logits = torch.randn(batch, 3) if logits is None else logits
    return Exchange(
        inputs=(),
        target=target,
        student=View(torch.randn(batch, 3), {f"s{i}": feature for i, feature in enumerate(student)}),
        teachers=[View(logits, {f"t{i}": feature for i, feature in enumerate(teacher)})],
        progress=Progress(),
    )


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    """An exchange that holds the given features under ``s0``, ``s1`` … and ``t0``, ``t1`` …."""
    return make_exchange


@pytest.fixture
def build() -> Callable[..., DistillationMethod]:
    """Build a method on the shapes of given features; its parameters get the features' dtype."""

    def make(
        method: DistillationMethod,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        teacher_network: nn.Module | None = None,
        logits: Tensor | None = None,
    ) -> DistillationMethod:
        pairs = [(f"s{i}", f"t{i}") for i in range(len(student))]
        method.pairs = method.select_stages(pairs) if method.layers == "auto" else pairs
        context = BuildContext(
            make_exchange(student, teacher, logits=logits), nn.Identity(), [teacher_network or nn.Linear(1, 1)]
        )
        method.build(context)
        return method.to(student[0].dtype)

    return make
