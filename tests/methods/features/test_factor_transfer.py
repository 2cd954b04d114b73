import pytest
import torch

from lightning_kd.methods.features import FactorTransfer, factor_transfer_loss


def slow(student, teacher, p, mode):
    values = []
    for a, b in zip(student, teacher, strict=True):
        if mode == "repdistiller":
            a, b = (x.pow(2).sum(0) / len(x) for x in (a, b))
        a, b = (x.flatten() / x.flatten().norm() for x in (a, b))
        values.append(torch.stack([abs(x - y) ** p for x, y in zip(a, b, strict=True)]).mean())
    return sum(values) / len(values)


@pytest.mark.parametrize("mode", ["paper", "repdistiller"])
@pytest.mark.parametrize("p", [1, 2])
def test_matches_a_loop_over_elements(maps, agree, mode, p):
    student, teacher = maps((3, 4, 3, 3), grad=True), maps((3, 4, 3, 3))
    agree(factor_transfer_loss(student[0], teacher[0], p, mode), slow(student[0], teacher[0], p, mode), student)


def test_the_paraphraser_learns_in_its_stage_and_is_frozen_afterwards(maps, build, exchange):
    student, teacher = maps((4, 3, 4, 4), grad=True), maps((4, 6, 8, 8))
    method = build(FactorTransfer(learning_rate=1e-2), student, teacher)
    first = method.paraphraser.learn(teacher[0])
    with torch.no_grad():
        for _ in range(60):
            method.observe(exchange(student, teacher))
    last = method.paraphraser.learn(teacher[0])
    method.finish_setup()
    assert last < 0.8 * first
    frozen = [parameter for name, parameter in method.named_parameters() if name.startswith("paraphraser")]
    assert frozen
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in frozen)
    before = [parameter.clone() for parameter in frozen]
    optimizer = torch.optim.SGD(method.parameters(), 0.1, weight_decay=0.1)
    method(exchange(student, teacher)).backward()
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, frozen, strict=True))
    assert all(parameter.grad is not None for parameter in method.translator.parameters())


def test_the_factor_has_the_asked_share_of_channels(maps, build, exchange):
    student, teacher = maps((4, 3, 4, 4)), maps((4, 8, 4, 4))
    method = build(FactorTransfer(rate=0.25), student, teacher)
    assert method.paraphraser(teacher[0]).shape == (4, 2, 4, 4)
    assert method.translator(student[0]).shape == (4, 2, 4, 4)
    assert method(exchange(student, teacher)).isfinite()


def test_refusals(maps, build):
    with pytest.raises(ValueError, match="mode must be one of"):
        FactorTransfer(mode="other")
    with pytest.raises(ValueError, match="must be positive"):
        FactorTransfer(rate=0.0)
    with pytest.raises(ValueError, match="equally many channels"):
        factor_transfer_loss(torch.zeros(2, 3, 2, 2), torch.zeros(2, 4, 2, 2))
    with pytest.raises(ValueError, match="one pair"):
        build(FactorTransfer(layers={"a": "b"}), maps((2, 3, 2, 2), (2, 3, 2, 2)), maps((2, 3, 2, 2), (2, 3, 2, 2)))
