import pytest
import torch
import torch.nn.functional as F

from lightning_kd.methods.features import SemCKD, semantic_calibration_loss


def slow(method, student, teacher):
    """Layer by layer and sample by sample, for a batch of exactly one group."""

    def embed(network, feature):
        flat = feature.flatten(1)
        rows = torch.stack([torch.stack([a @ b for b in flat]) for a in flat])
        out = network.output(network.hidden(rows).relu())
        return out / out.pow(2).sum(1, keepdim=True).sqrt()

    queries = [embed(n, f) for n, f in zip(method.queries, student, strict=True)]
    keys = [embed(n, f) for n, f in zip(method.keys, teacher, strict=True)]
    errors = {}
    for i, s in enumerate(student):
        for j, t in enumerate(teacher):
            size = min(s.shape[2], t.shape[2])
            source, target = F.adaptive_avg_pool2d(s, size), F.adaptive_avg_pool2d(t, size)
            errors[i, j] = (method.projectors[i * len(teacher) + j](source) - target).pow(2).mean((1, 2, 3))
    total = 0.0
    for b in range(len(student[0])):
        for i, query in enumerate(queries):
            attention = torch.stack([query[b] @ key[b] for key in keys]).softmax(0)
            total = total + sum(attention[j] * errors[i, j][b] for j in range(len(keys)))
    return total / (len(student[0]) * len(student))


def test_matches_a_loop_over_samples_and_layers(maps, build, exchange, agree):
    student, teacher = maps((8, 3, 8, 8), (8, 4, 4, 4), grad=True), maps((8, 5, 4, 4), (8, 6, 2, 2))
    method = build(SemCKD(group_size=8), student, teacher)
    agree(method(exchange(student, teacher)), slow(method, student, teacher), [*student, *method.parameters()], 1e-8)


@pytest.mark.parametrize("batch", [1, 5, 8, 11])
def test_every_batch_size_works(maps, build, exchange, batch):
    shapes = [(3, 4, 4), (4, 2, 2)]
    method = build(SemCKD(group_size=8), maps(*((8, *s) for s in shapes)), maps(*((8, *s) for s in shapes)))
    student, teacher = maps(*((batch, *s) for s in shapes), grad=True), maps(*((batch, *s) for s in shapes))
    loss = method(exchange(student, teacher))
    loss.backward()
    assert loss.isfinite()
    assert all(feature.grad.isfinite().all() for feature in student)


def test_a_full_group_is_unaffected_by_the_rest_of_the_batch(maps, build):
    student, teacher = maps((11, 3, 4, 4)), maps((11, 4, 4, 4))
    method = build(SemCKD(group_size=8), student, teacher)
    whole = method.attention(student, teacher)
    first = method.attention([student[0][:8]], [teacher[0][:8]])
    torch.testing.assert_close(whole[:8], first)
    torch.testing.assert_close(whole.sum(2), torch.ones(11, 1, dtype=torch.float64))


def test_half_precision_features_do_not_overflow_the_attention(maps, build, exchange):
    student = [(100 * feature).half() for feature in maps((4, 8, 16, 16))]
    teacher = [(100 * feature).half() for feature in maps((4, 8, 16, 16))]
    method = build(SemCKD(group_size=4), student, teacher)
    attention = method.attention(student, teacher)
    assert attention.dtype == torch.float32
    assert attention.isfinite().all()


def test_refusals():
    with pytest.raises(ValueError, match="hidden_factor"):
        SemCKD(group_size=2, hidden_factor=4)
    with pytest.raises(ValueError, match="temperature"):
        SemCKD(temperature=0.0)
    with pytest.raises(ValueError, match="one shape"):
        semantic_calibration_loss(torch.zeros(2, 1, 1), torch.zeros(2, 1, 2))
