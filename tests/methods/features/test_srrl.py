import pytest
import torch
from torch import nn

from lightning_kd.methods.features import SRRL, softmax_regression_loss


def test_matches_the_formula(maps, build, exchange, agree):
    student, teacher = maps((6, 4), grad=True), maps((6, 5))
    head = nn.Linear(5, 3).double()
    logits = head(teacher[0]).detach()
    method = build(SRRL(), student, teacher, head, logits)
    hidden = student[0] @ method.projector[0].weight[:, :, 0, 0].T
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    embedding = hidden.relu()
    reference = (embedding - teacher[0]).pow(2).mean() + (head(embedding) - logits).pow(2).mean()
    agree(method(exchange(student, teacher, logits=logits)), reference, [*student, method.projector[0].weight])


def test_the_classifier_gets_no_gradient_and_is_no_parameter(maps, build, exchange):
    student, teacher = maps((6, 4), grad=True), maps((6, 5))
    head = nn.Linear(5, 3).double()
    method = build(SRRL(), student, teacher, head)
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"projector"}
    method(exchange(student, teacher)).backward()
    assert head.weight.grad is None


def test_a_single_sample_uses_the_running_statistics(maps, build, exchange):
    student, teacher = maps((6, 4)), maps((6, 5))
    method = build(SRRL(), student, teacher, nn.Linear(5, 3).double())
    assert method(exchange([student[0][:1]], [teacher[0][:1]])).isfinite()


def test_refusals(maps, build):
    with pytest.raises(ValueError, match="no linear classifier"):
        build(SRRL(), maps((6, 4)), maps((6, 5)), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="one pair"):
        build(SRRL(), maps((6, 4), (6, 4)), maps((6, 5), (6, 5)), nn.Linear(5, 3))
    with pytest.raises(ValueError, match="same classes"):
        softmax_regression_loss(torch.zeros(2, 3), torch.zeros(2, 4))
