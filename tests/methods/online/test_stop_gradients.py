"""One joint backward equals separate backward passes, one for each network."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.logits.kd import kd_loss
from lightning_kd.methods.online import (
    BDKD,
    DML,
    KDCL,
    SwitOKD,
    balanced_divergence_loss,
    expert_mode,
    gap_statistics,
    min_logit_ensemble,
)
from lightning_kd.methods.online.kdcl import ENSEMBLES


def networks(count: int) -> tuple[list[nn.Module], Tensor, Tensor]:
    torch.manual_seed(3)
    made: list[nn.Module] = [
        nn.Sequential(nn.Linear(6, 7 + i), nn.Tanh(), nn.Linear(7 + i, 5)).double() for i in range(count)
    ]
    return made, torch.randn(9, 6, dtype=torch.float64), torch.randint(5, (9,))


def exchange(outputs: list[Tensor], target: Tensor) -> Exchange:
    return Exchange((), target, View(outputs[0]), [View(output) for output in outputs[1:]])


def far_ahead(labels: Tensor) -> Tensor:
    """Added to small logits: better than a network that knows nothing, too far for it to follow."""
    return 9.0 * F.one_hot(labels, 5) + 8.6 * F.one_hot((labels + 1) % 5, 5)


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters()), retain_graph=True))


METHODS = {
    "DML-1": (partial(DML, 2.0, 0.7), 2),
    "DML-3": (DML, 4),
    **{f"KDCL-{variant}": (partial(KDCL, variant), 3) for variant in ENSEMBLES},
    "SwitOKD": (SwitOKD, 2),
    "SwitOKD-2T1S": (SwitOKD, 3),
    "SwitOKD-1T2S": (partial(SwitOKD, fellow_students=1), 3),
    "BDKD": (partial(BDKD, 3.0, 2.0, 0.5, 0.8), 2),
    "BDKD-2T2S": (partial(BDKD, fellow_students=1), 4),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_term_reaches_one_network_only(name: str) -> None:
    factory, count = METHODS[name]
    nets, x, y = networks(count)
    method = factory()
    outputs = [net(x) for net in nets]
    joint = method(exchange(outputs, y)) + F.cross_entropy(outputs[0], y)
    for position, net in enumerate(nets):
        # every network's own loss is the joint one while the others are constants
        alone = [output if i == position else output.detach() for i, output in enumerate(outputs)]
        loss = method(exchange(alone, y)) + F.cross_entropy(alone[0], y)
        for together, separate in zip(gradients(joint, net), gradients(loss, net), strict=True):
            assert together.any()
            torch.testing.assert_close(together, separate, rtol=0, atol=1e-12)


def test_dml_against_separate_losses() -> None:
    nets, x, y = networks(3)
    s, a, b = (net(x) for net in nets)
    joint = DML()(exchange([s, a, b], y))
    losses = [
        (kd_loss(s, a, 1) + kd_loss(s, b, 1)) / 2,
        F.cross_entropy(a, y) + (kd_loss(a, s, 1) + kd_loss(a, b, 1)) / 2,
        F.cross_entropy(b, y) + (kd_loss(b, s, 1) + kd_loss(b, a, 1)) / 2,
    ]
    compare(joint, losses, nets)


def test_kdcl_against_separate_losses() -> None:
    nets, x, y = networks(3)
    outputs = [net(x) for net in nets]
    ensemble = min_logit_ensemble(outputs, y)
    losses = [0.5 * kd_loss(output, ensemble, 3.0) for output in outputs]
    losses[1:] = [loss + F.cross_entropy(output, y) for loss, output in zip(losses[1:], outputs[1:], strict=True)]
    compare(KDCL(temperature=3.0, alpha=0.5)(exchange(outputs, y)), losses, nets)


def test_bdkd_against_separate_losses() -> None:
    nets, x, y = networks(4)
    s, t, u, f = (net(x) for net in nets)
    joint = BDKD(3.0, 2.0, 0.5, 0.8, fellow_students=1)(exchange([s, t, u, f], y))

    def student(z: Tensor) -> Tensor:
        return 0.5 * (balanced_divergence_loss(z, t, 3.0, 2.0) + balanced_divergence_loss(z, u, 3.0, 2.0)) / 2

    def teacher(z: Tensor) -> Tensor:
        return F.cross_entropy(z, y) + 0.8 * (kd_loss(z, s, 2.0) + kd_loss(z, f, 2.0)) / 2

    compare(joint, [student(s), teacher(t), teacher(u), F.cross_entropy(f, y) + student(f)], nets)


def test_frozen_bdkd_is_the_students_term_alone() -> None:
    nets, x, _ = networks(2)
    outputs = [net(x) for net in nets]
    method = BDKD(alpha=0.5, teacher_mode="frozen")
    assert not method.trains_teacher
    assert BDKD().trains_teacher
    loss = method(exchange(outputs, None))
    assert loss.item() == pytest.approx(0.5 * balanced_divergence_loss(*outputs).item(), rel=1e-12)
    assert all(grad is None for grad in torch.autograd.grad(loss, list(nets[1].parameters()), allow_unused=True))


def test_switokd_in_both_modes() -> None:
    nets, x, y = networks(2)
    student, ahead = nets[0](x), far_ahead(y)
    for teacher, pauses in ((nets[1](x) + ahead, True), (nets[1](x) - ahead, False)):
        assert bool(expert_mode(gap_statistics(student, teacher, y))) == pauses
        joint = SwitOKD()(exchange([student, teacher], y))
        gradient = torch.autograd.grad(joint, list(nets[1].parameters()), allow_unused=True, retain_graph=True)
        assert all((grad is None) == pauses for grad in gradient)
        whole = 0 if pauses else F.cross_entropy(teacher, y) + kd_loss(teacher, student, 1)
        expected = (kd_loss(student, teacher, 1) + whole).item()
    assert joint.item() == pytest.approx(expected, rel=1e-12)


def test_switokd_decides_for_each_teacher_by_itself() -> None:
    nets, x, y = networks(3)
    outputs = [nets[0](x), nets[1](x) + far_ahead(y), nets[2](x) - far_ahead(y)]
    joint = SwitOKD()(exchange(outputs, y))
    moved = [
        [grad is not None for grad in torch.autograd.grad(joint, list(net.parameters()), None, True, allow_unused=True)]
        for net in nets
    ]
    assert [all(flags) for flags in moved] == [True, False, True]
    assert not any(moved[1])


def test_a_teacher_learns_from_the_students_within_its_reach() -> None:
    nets, x, y = networks(3)
    far, teacher, near = nets[0](x), nets[1](x) + far_ahead(y), 0.1 * nets[2](x) + far_ahead(y)
    joint = SwitOKD(fellow_students=1)(exchange([far, teacher, near], y))
    losses = [
        kd_loss(far, teacher, 1) + kd_loss(far, near, 1),
        F.cross_entropy(teacher, y) + kd_loss(teacher, near, 1),
        F.cross_entropy(near, y) + kd_loss(near, teacher, 1) + kd_loss(near, far, 1),
    ]
    compare(joint, losses, nets)


def compare(joint: Tensor, losses: list[Tensor], nets: list[nn.Module]) -> None:
    assert joint.item() == pytest.approx(sum(loss.item() for loss in losses), rel=1e-12)
    for loss, net in zip(losses, nets, strict=True):
        for together, separate in zip(gradients(joint, net), gradients(loss, net), strict=True):
            torch.testing.assert_close(together, separate, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factory", [DML, KDCL, SwitOKD, BDKD])
def test_refusals(factory) -> None:
    nets, x, y = networks(2)
    output = nets[0](x)
    with pytest.raises(ValueError, match="at least one peer"):
        factory()(exchange([output], y))
    with pytest.raises(ValueError, match="same shape"):
        factory()(exchange([output, output[:, :4]], y))
    with pytest.raises(ValueError, match="peer_lr must be positive"):
        factory(peer_lr=0.0)
    with pytest.raises(ValueError, match="peer_weight_decay must not be negative"):
        factory(peer_weight_decay=-1.0)
    with pytest.raises(ValueError, match="alpha must not be negative"):
        factory(alpha=-0.1)
    with pytest.raises(ValueError, match="temperature must be positive"):
        factory(temperature=-1.0)


@pytest.mark.parametrize("factory", [SwitOKD, BDKD])
def test_roles_are_checked(factory) -> None:
    nets, x, y = networks(2)
    with pytest.raises(ValueError, match="fellow_students=1 of 1 peers leaves no teacher"):
        factory(fellow_students=1)(exchange([net(x) for net in nets], y))
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        factory(fellow_students=-1)


def test_bad_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="teacher_mode must be one of 'online', 'frozen', got 'off'"):
        BDKD(teacher_mode="off")
    with pytest.raises(ValueError, match='rules out; use "online"'):
        BDKD(teacher_mode="frozen", fellow_students=1)
    with pytest.raises(ValueError, match="variant must be one of 'naive', 'linear', 'min_logit', 'general', got 'max'"):
        KDCL("max")
