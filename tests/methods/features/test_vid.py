import math

import pytest
import torch

from lightning_kd.methods.features import VID, vid_loss


def slow(means, teacher, variances):
    total = 0.0
    for m, t, v in zip(means, teacher, variances, strict=True):
        values = [
            -math.log(math.sqrt(2 * math.pi)) - torch.distributions.Normal(m[:, c], v[c].sqrt()).log_prob(t[:, c])
            for c in range(m.shape[1])
        ]
        total = total + torch.stack(values).mean()
    return total


def test_matches_the_normal_log_likelihood(maps, agree):
    shapes = ((3, 4, 2, 2), (3, 5, 2, 2))
    means, teacher = maps(*shapes, grad=True), maps(*shapes)
    variances = [(torch.rand(n, dtype=torch.float64) + 0.1).requires_grad_() for n in (4, 5)]
    agree(vid_loss(means, teacher, variances), slow(means, teacher, variances), [*means, *variances])


def test_variances_start_as_asked_and_train(maps, build, exchange):
    student, teacher = maps((4, 3, 4, 4), grad=True), maps((4, 5, 8, 8))
    method = build(VID(initial_variance=2.0), student, teacher)
    torch.testing.assert_close(method.variances[0], torch.full((5,), 2.0, dtype=torch.float64))
    assert "scales.0" in dict(method.named_parameters())
    optimizer = torch.optim.SGD(method.parameters(), 0.5)
    for _ in range(300):
        optimizer.zero_grad()
        method(exchange(student, teacher)).backward()
        optimizer.step()
    target = torch.nn.functional.avg_pool2d(teacher[0], 2)
    residual = (method.regressors[0](student[0]) - target).pow(2).mean((0, 2, 3))
    torch.testing.assert_close(method.variances[0], residual, rtol=0.1, atol=0.02)


def test_the_regressor_has_no_biases_and_the_known_size(maps, build):
    shapes = [(2, 64, 2, 2), (2, 128, 2, 2), (2, 256, 2, 2)]
    method = build(VID(), maps(*shapes), maps(*shapes))
    assert sum(parameter.numel() for parameter in method.regressors.parameters()) == 258_048


def test_refusals(maps):
    with pytest.raises(ValueError, match="initial_variance > eps"):
        VID(initial_variance=0.0)
    with pytest.raises(ValueError, match="equal shapes"):
        vid_loss(maps((2, 4, 3, 3)), maps((2, 4, 2, 2)), [torch.ones(4)])
