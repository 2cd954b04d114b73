import pytest
import torch

from lightning_kd.methods.features import KTA, affinity_loss, factor_transfer_loss


def slow(student, teacher):
    positions = student.shape[2] * student.shape[3]
    total = 0.0
    for a, b in zip(student, teacher, strict=True):
        for u, v in zip(a.flatten(1), b.flatten(1), strict=True):
            u, v = u / u.norm(), v / v.norm()
            total = total + ((torch.outer(u, u) - torch.outer(v, v)) / positions).pow(2).sum().sqrt()
    return total / len(student)


def test_affinity_matches_the_explicit_matrices(maps, agree):
    student, teacher = maps((3, 4, 3, 3), grad=True), maps((3, 4, 3, 3))
    agree(affinity_loss(student[0], teacher[0]), slow(student[0], teacher[0]), student)


def test_opposite_and_equal_channels_have_equal_affinities(maps):
    feature = maps((3, 4, 3, 3), grad=True)[0]
    for other in (feature.detach(), -feature.detach()):
        loss = affinity_loss(feature, other)
        [gradient] = torch.autograd.grad(loss, feature)
        assert loss.item() < 1e-12
        assert gradient.isfinite().all()


def test_both_terms_and_their_weights(maps, build, exchange, agree):
    student, teacher = maps((4, 3, 4, 4), grad=True), maps((4, 6, 4, 4))
    method = build(KTA(adaptation_weight=2.0, affinity_weight=3.0), student, teacher)
    condensed = method.autoencoder(teacher[0])
    adaptation = factor_transfer_loss(method.feature_adapter(student[0]), condensed)
    affinity = slow(method.affinity_adapter(student[0]), condensed)
    agree(method(exchange(student, teacher)), 2 * adaptation + 3 * affinity, student)


def test_the_autoencoder_is_trained_before_and_frozen(maps, build, exchange):
    student, teacher = maps((4, 3, 4, 4)), maps((4, 6, 4, 4))
    method = build(KTA(), student, teacher)
    before = method.autoencoder(teacher[0])
    method.observe(exchange(student, teacher))
    method.finish_setup()
    assert not torch.equal(method.autoencoder(teacher[0]), before)
    trained = {name.split(".")[0] for name, p in method.named_parameters() if p.requires_grad}
    assert trained == {"feature_adapter", "affinity_adapter"}


def test_refusals(maps):
    with pytest.raises(ValueError, match="rate"):
        KTA(rate=0.0)
    with pytest.raises(ValueError, match="equally many channels"):
        affinity_loss(torch.zeros(2, 3, 2, 2), torch.zeros(2, 4, 2, 2))
