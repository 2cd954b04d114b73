import pytest
import torch

from lightning_kd.methods.features import AttentionTransfer, attention_transfer_loss


def slow(student, teacher, p, mode):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        per_sample = []
        for a, b in zip(s, t, strict=True):
            left, right = ((x.abs() ** p).sum(0).flatten() for x in (a, b))
            left, right = left / left.pow(2).sum().sqrt(), right / right.pow(2).sum().sqrt()
            squares = (left - right).pow(2).sum()
            per_sample.append(squares / left.numel() if mode == "code" else squares.sqrt())
        total = total + sum(per_sample) / len(per_sample)
    return total


@pytest.mark.parametrize("mode", ["code", "paper"])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_matches_a_loop_over_samples(maps, agree, mode, p):
    student, teacher = maps((3, 4, 6, 6), (3, 5, 3, 3), grad=True), maps((3, 7, 6, 6), (3, 5, 3, 3))
    agree(attention_transfer_loss(student, teacher, p, mode), slow(student, teacher, p, mode), student)


def test_the_larger_map_is_pooled(maps):
    [student], [teacher] = maps((2, 4, 8, 8)), maps((2, 4, 4, 4))
    pooled = torch.nn.functional.avg_pool2d(student, 2)
    assert attention_transfer_loss([student], [teacher]) == attention_transfer_loss([pooled], [teacher])
    assert attention_transfer_loss([teacher], [student]) == attention_transfer_loss([teacher], [pooled])


def test_tokens_are_read_as_a_grid_without_the_class_token(maps):
    [student], [teacher] = maps((2, 4, 3, 3)), maps((2, 10, 6))
    grid = teacher[:, 1:].transpose(1, 2).reshape(2, 6, 3, 3)
    assert attention_transfer_loss([student], [teacher]) == attention_transfer_loss([student], [grid])


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_a_perfect_student_has_loss_zero_and_a_finite_gradient(maps, mode):
    features = maps((2, 4, 3, 3), grad=True)
    loss = attention_transfer_loss(features, features, 2, mode)
    loss.backward()
    assert loss.item() == 0
    assert features[0].grad.isfinite().all()


def test_refusals(maps):
    with pytest.raises(ValueError, match="mode must be one of"):
        AttentionTransfer(mode="papr")
    with pytest.raises(ValueError, match="as many student as teacher features"):
        attention_transfer_loss(maps((2, 4, 3, 3)), [])
    with pytest.raises(ValueError, match="spatial extent"):
        attention_transfer_loss(maps((2, 4)), maps((2, 4)))
