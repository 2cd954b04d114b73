"""Logit losses against slow references: explicit loops over scalars in float64, written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_kd.methods.logits import (
    class_attention_transfer_loss,
    feature_relation_loss,
    generalized_jsd_loss,
    label_smoothing_loss,
    learned_temperature_kd_loss,
    mlkd_loss,
    nkd_loss,
    ofa_loss,
    pld_loss,
    srd_loss,
    ttm_loss,
    uskd_loss,
    virtual_teacher_loss,
    wsld_loss,
)

B, C = 5, 6


def softmax(row, temperature=1.0):
    largest = max(value.item() for value in row)
    powers = [((value - largest) / temperature).exp() for value in row]
    total = sum(powers)
    return [power / total for power in powers]


def mean(values):
    return sum(values) / len(values)


def kl(p, q):
    return sum(a * (a / b).log() for a, b in zip(p, q, strict=True))


def correlation(x, y):
    x, y = [a - mean(x) for a in x], [b - mean(y) for b in y]
    norms = sum(a * a for a in x).sqrt() * sum(b * b for b in y).sqrt()
    return sum(a * b for a, b in zip(x, y, strict=True)) / (norms + 1e-8)


def nkd(student, teacher, target):
    total = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        others = [c for c in range(C) if c != y]
        p, q = softmax(t), softmax(s)
        p_others, q_others = softmax([t[c] for c in others], 2.0), softmax([s[c] for c in others], 2.0)
        cross = -sum(a * b.log() for a, b in zip(p_others, q_others, strict=True))
        total.append(-p[y] * q[y].log() + 1.5 * 4.0 * cross)
    return mean(total)


def wsld(student, teacher, target):
    total = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        ratio = softmax(s)[y].log().item() / (softmax(t)[y].log().item())
        total.append((1 - math.exp(-ratio)) * 4.0 * kl(softmax(t, 2.0), softmax(s, 2.0)))
    return mean(total)


def ttm(student, teacher, target, weighted=False):
    total = []
    for s, t in zip(student, teacher, strict=True):
        powered = [p ** (1 / 4.0) for p in softmax(t)]
        power_sum = sum(powered)
        divergence = kl([p / power_sum for p in powered], softmax(s))
        total.append(power_sum * divergence if weighted else divergence)
    return mean(total)


def wttm(student, teacher, target):
    return ttm(student, teacher, target, weighted=True)


def jsd(student, teacher, target):
    total = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t, 2.0), softmax(s, 2.0)
        mixture = [0.3 * a + 0.7 * b for a, b in zip(p, q, strict=True)]
        total.append(0.3 * kl(p, mixture) + 0.7 * kl(q, mixture))
    return mean(total)


def forward_end(student, teacher, target):
    return mean([kl(softmax(t), softmax(s)) for s, t in zip(student, teacher, strict=True)])


def reverse_end(student, teacher, target):
    return mean([kl(softmax(s), softmax(t)) for s, t in zip(student, teacher, strict=True)])


def smoothing(student, teacher, target):
    total = []
    for s, y in zip(student, target.tolist(), strict=True):
        q = softmax(s)
        total.append(-sum((0.2 / C + (0.8 if c == y else 0.0)) * q[c].log() for c in range(C)))
    return mean(total)


def virtual(student, teacher, target, tempered=False):
    total = []
    for s, y in zip(student, target.tolist(), strict=True):
        designed = [torch.tensor(0.9 if c == y else 0.1 / (C - 1), dtype=torch.float64) for c in range(C)]
        total.append(kl(softmax(designed, 3.0), softmax(s, 3.0 if tempered else 1.0)))
    return mean(total)


def virtual_tempered(student, teacher, target):
    return virtual(student, teacher, target, tempered=True)


def ofa(student, teacher, target):
    total = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        p, q = softmax(t, 2.0), softmax(s, 2.0)
        weights = [(1 + p[c]) ** 1.3 - 1 if c == y else p[c] ** 1.3 for c in range(C)]
        total.append(-sum(w * b.log() for w, b in zip(weights, q, strict=True)))
    return mean(total)


def learned(student, teacher, target):
    return 9.0 * mean([kl(softmax(t, 3.0), softmax(s, 3.0)) for s, t in zip(student, teacher, strict=True)])


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def mlkd(student, teacher, target, masked=True):
    confidence = [max(p.item() for p in softmax(t)) for t in teacher]
    frequency = [sum(softmax(t)[c].item() for t in teacher) for c in range(C)]
    samples = [float(not masked or value <= median(confidence)) for value in confidence]
    classes = [float(not masked or value <= median(frequency)) for value in frequency]
    loss = 0.0
    for temperature in (2.0, 5.0):
        p, q = [softmax(t, temperature) for t in teacher], [softmax(s, temperature) for s in student]
        for b in range(B):
            loss = loss + samples[b] * temperature**2 * kl(p[b], q[b]) / B
            for other in range(B):
                gap = sum(p[b][c] * p[other][c] - q[b][c] * q[other][c] for c in range(C))
                loss = loss + samples[b] * gap**2 / B
        for c in range(C):
            for other in range(C):
                gap = sum(p[b][c] * p[b][other] - q[b][c] * q[b][other] for b in range(B))
                loss = loss + classes[c] * gap**2 / C
    return loss


def mlkd_unmasked(student, teacher, target):
    return mlkd(student, teacher, target, masked=False)


def list_mle(student, teacher, target, weights=None):
    total = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        ranking = [y, *sorted((c for c in range(C) if c != y), key=lambda c: -t[c].item())]
        for k in range(C):
            remaining = sum(s[c].exp() for c in ranking[k:])
            total.append((weights[k] if weights else 1 / C) * (remaining.log() - s[ranking[k]]) / B)
    return sum(total)


def p_list_mle(student, teacher, target):
    weights = [2.0 ** (C - 1 - k) - 1 for k in range(C)]
    return list_mle(student, teacher, target, [weight / sum(weights) for weight in weights])


def uskd(student, weak, target, logs=False):
    squares = [softmax(s)[y].item() ** 2 for s, y in zip(student, target.tolist(), strict=True)]
    total = []
    for s, w, y, square in zip(student, weak, target.tolist(), squares, strict=True):
        q, v = softmax(s), softmax(w)
        a = [x.log().item() for x in q] if logs else [x.item() for x in q]
        score = [v[c].item() / (1 - v[y].item() + 1e-6) + a[c] / (1 - a[y] + 1e-6) for c in range(C)]
        order = sorted(range(C), key=lambda c: -score[c])
        zipf = {c: 1 / (order.index(c) + 1) for c in range(C) if c != y}
        others = list(zipf)
        q_others = softmax([s[c] for c in others])
        soft = [zipf[c] / sum(zipf.values()) for c in others]
        label_term = -(square + 1 - mean(squares)) * q[y].log()
        others_term = -sum(z * b.log() for z, b in zip(soft, q_others, strict=True))
        weak_term = -sum(((0.9 if c == y else 0.0) + 0.1 / C) * v[c].log() for c in range(C))
        total.append(0.7 * label_term + 0.4 * others_term + 0.2 * weak_term)
    return mean(total)


def uskd_code(student, weak, target):
    return uskd(student, weak, target, logs=True)


CASES = {
    "nkd": (lambda s, t, y: nkd_loss(s, t, y, 1.5, 2.0), nkd),
    "wsld": (lambda s, t, y: wsld_loss(s, t, y, 2.0), wsld),
    "ttm": (lambda s, t, y: ttm_loss(s, t, 4.0, weighted=False), ttm),
    "wttm": (lambda s, t, y: ttm_loss(s, t, 4.0), wttm),
    "jsd": (lambda s, t, y: generalized_jsd_loss(s, t, 0.3, 2.0), jsd),
    "jsd at 0": (lambda s, t, y: generalized_jsd_loss(s, t, 0.0), forward_end),
    "jsd at 1": (lambda s, t, y: generalized_jsd_loss(s, t, 1.0), reverse_end),
    "label smoothing": (lambda s, t, y: label_smoothing_loss(s, y, 0.2), smoothing),
    "virtual teacher": (lambda s, t, y: virtual_teacher_loss(s, y, 0.9, 3.0), virtual),
    "virtual teacher, paper": (lambda s, t, y: virtual_teacher_loss(s, y, 0.9, 3.0, "paper"), virtual_tempered),
    "ofa": (lambda s, t, y: ofa_loss(s, t, y, 1.3, 2.0), ofa),
    "learned temperature": (lambda s, t, y: learned_temperature_kd_loss(s, t, torch.tensor(3.0)), learned),
    "mlkd": (lambda s, t, y: mlkd_loss(s, t, (2.0, 5.0)), mlkd),
    "mlkd, unmasked": (lambda s, t, y: mlkd_loss(s, t, (2.0, 5.0), masked=False), mlkd_unmasked),
    "ListMLE": (lambda s, t, y: pld_loss(s, t, y, mode="uniform"), list_mle),
    "p-ListMLE": (lambda s, t, y: pld_loss(s, t, y, mode="decay"), p_list_mle),
}


def random_case(seed):
    generator = torch.Generator().manual_seed(seed)
    student = 2 * torch.randn(B, C, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(B, C, generator=generator, dtype=torch.float64)
    return student, teacher, torch.randint(C, (B,), generator=generator)


def assert_equal_with_gradients(loss, reference, inputs, rtol=1e-7):
    loss_gradients = torch.autograd.grad(loss, inputs)
    reference_gradients = torch.autograd.grad(reference, inputs)
    torch.testing.assert_close(loss, reference, rtol=rtol, atol=1e-12)
    for actual, expected in zip(loss_gradients, reference_gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, seed):
    loss, reference = CASES[name]
    student, teacher, target = random_case(seed)
    student.requires_grad_()
    assert_equal_with_gradients(loss(student, teacher, target), reference(student, teacher, target), [student], 1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("mode", "reference"), [("probability", uskd), ("code", uskd_code)])
def test_uskd(mode, reference, seed):
    student, weak, target = random_case(seed)
    student.requires_grad_()
    weak.requires_grad_()
    loss = uskd_loss(student, weak, target, 0.7, 0.4, 0.2, mode)
    assert_equal_with_gradients(loss, reference(student, weak, target), [student, weak])


def test_srd():
    student, teacher, _ = random_case(0)
    student.requires_grad_()

    def normalized(features):
        columns = []
        for column in features.unbind(1):
            variance = mean([(x - mean(column)) ** 2 for x in column])
            columns.append([(x - mean(column)) / (variance + 1e-5).sqrt() for x in column])
        return columns

    pairs = zip(normalized(student), normalized(teacher), strict=True)
    total = sum((a - b).abs() ** 4 for left, right in pairs for a, b in zip(left, right, strict=True))
    assert_equal_with_gradients(srd_loss(student, teacher), total.log(), [student])


@pytest.mark.parametrize("normalize", [False, True])
def test_class_attention_transfer(normalize):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)

    def pooled(cam):
        half = cam.shape[0] // 2
        cells = [
            cam[i * half : (i + 1) * half, j * half : (j + 1) * half].sum() / half**2 for i in (0, 1) for j in (0, 1)
        ]
        norm = sum(cell * cell for cell in cells).sqrt() if normalize else 1.0
        return [cell / norm for cell in cells]

    errors = [
        (a - b) ** 2
        for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True)
        for a, b in zip(pooled(s), pooled(t), strict=True)
    ]
    loss = class_attention_transfer_loss(student, teacher, 2, normalize)
    assert_equal_with_gradients(loss, mean(errors), [student])


def test_feature_relation():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, 2, 2, generator=generator, dtype=torch.float64)
    positions = [(i, j) for i in range(2) for j in range(2)]
    channel = mean(
        [correlation(list(student[b, :, i, j]), list(teacher[b, :, i, j])) for b in range(3) for i, j in positions]
    )
    spatial = mean(
        [
            correlation([sum(student[b, :, i, j]) for b in range(3)], [sum(teacher[b, :, i, j]) for b in range(3)])
            for i, j in positions
        ]
    )
    loss = feature_relation_loss(student, teacher, 0.3, 0.6)
    assert_equal_with_gradients(loss, 0.3 * (1 - channel) + 0.6 * (1 - spatial), [student])


def test_learned_temperature_gradient():
    student, teacher, _ = random_case(0)
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: learned_temperature_kd_loss(student, teacher, t), (temperature,))


def test_values_computed_by_hand_for_pld_and_ofa():
    teacher = torch.tensor([[2, 0.5, -1, 0], [0.1, 0.2, 0.3, -0.4], [-1, 3, 1, 0.5]], dtype=torch.float64)
    student = torch.tensor([[1, 1.5, -0.5, 0.2], [1, -0.2, 0, 0.5], [0, 0.5, 2, -1]], dtype=torch.float64)
    target = torch.tensor([0, 2, 1])
    assert pld_loss(student, teacher, target, 1.0).item() == pytest.approx(1.2490440146246, rel=1e-12)
    assert pld_loss(student, teacher, target, 4.0).item() == pytest.approx(0.9147418764083, rel=1e-12)
    assert ofa_loss(student, teacher, target, 1.0).item() == pytest.approx(1.5277394784817, rel=1e-12)
    assert ofa_loss(student, teacher, target, 1.5).item() == pytest.approx(1.9063415671323, rel=1e-12)
