"""What single logit methods do beyond their loss: special cases, schedules, wrappers, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lightning_kd.engine.exchange import Progress, View
from lightning_kd.methods.logits import (
    CATKD,
    CTKD,
    DKD,
    KD,
    MLKD,
    PLD,
    SRD,
    LogitStandardization,
    dist_loss,
    dkd_loss,
    generalized_jsd_loss,
    kd_loss,
    label_smoothing_loss,
    logit_standardized_kd_loss,
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
from lightning_kd.methods.logits.cat_kd import class_activation_maps
from lightning_kd.methods.logits.ctkd import scale_gradient
from lightning_kd.testing import Rig


@pytest.fixture
def student():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def teacher():
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def target():
    return torch.tensor([0, 1, 2, 3, 4, 0])


def test_dkd_with_the_teachers_own_weights_is_kd(student, teacher, target):
    others = 1 - teacher.softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    terms = [
        dkd_loss(s[None], t[None], y[None], 1.0, b.item(), 1.0)
        for s, t, y, b in zip(student, teacher, target, others, strict=True)
    ]
    torch.testing.assert_close(torch.stack(terms).mean(), kd_loss(student, teacher, 1.0))


def test_pld_ignores_the_teachers_rank_of_the_label(student, teacher, target):
    lowered = teacher.scatter(-1, target.unsqueeze(-1), -50.0)
    assert pld_loss(student, lowered, target, mode="uniform") == pld_loss(student, teacher, target, mode="uniform")


def test_pld_with_the_first_choice_only_is_cross_entropy(student, teacher, target):
    torch.testing.assert_close(pld_loss(student, teacher, target, mode="top"), F.cross_entropy(student, target))


def test_pld_orders_ties_the_same_way_every_time(student, target):
    ties = torch.zeros_like(student)
    assert pld_loss(student, ties, target) == pld_loss(student.clone(), ties, target)


def test_ttm_at_temperature_one_is_kd_at_temperature_one(student, teacher):
    expected = kd_loss(student, teacher, 1.0)
    torch.testing.assert_close(ttm_loss(student, teacher, 1.0, weighted=False), expected)
    torch.testing.assert_close(ttm_loss(student, teacher, 1.0, weighted=True), expected)


def test_normalized_jsd_is_continuous_at_its_ends(student, teacher):
    for end, near in ((0.0, 1e-6), (1.0, 1 - 1e-6)):
        limit = generalized_jsd_loss(student, teacher, near, normalize=True)
        torch.testing.assert_close(limit, generalized_jsd_loss(student, teacher, end), rtol=1e-4, atol=0)


def test_dist_of_one_sample_is_constant_in_its_column_term(student, teacher):
    single = student[:1].clone().requires_grad_()
    loss = dist_loss(single, teacher[:1], beta=0.0, gamma=1.0, temperature=2.0)
    loss.backward()
    assert loss.item() == 4.0
    assert not single.grad.any()


def test_standardised_logits_do_not_feel_scale_and_shift(student, teacher):
    loss = logit_standardized_kd_loss(student, teacher)
    torch.testing.assert_close(logit_standardized_kd_loss(7 * student - 2, teacher / 3 + 1), loss, rtol=1e-5, atol=0)


def test_the_wrapper_standardises_what_the_wrapped_method_sees():
    rig = Rig(lambda: LogitStandardization(DKD(temperature=2.0, weight=0.5)))
    exchange = rig.exchange()
    views = [exchange.student.logits, exchange.teacher.logits]
    student, teacher = ((z - z.mean(-1, keepdim=True)) / z.std(-1, keepdim=True) for z in views)
    expected = 0.5 * dkd_loss(student, teacher, exchange.labels, temperature=2.0)
    torch.testing.assert_close(rig.method(exchange), expected, rtol=1e-4, atol=1e-6)


def test_the_wrapper_declares_what_the_wrapped_method_needs():
    assert LogitStandardization(DKD()).needs_target
    assert not LogitStandardization().needs_target
    assert not LogitStandardization.needs_target


def test_the_wrapper_builds_feature_methods_and_passes_gradients():
    rig = Rig(lambda: LogitStandardization(SRD()))
    rig.method(rig.exchange()).backward()
    assert all(parameter.grad is not None for parameter in rig.method.parameters())


def test_the_wrapper_standardises_second_views_too():
    seen = []

    class Spy(MLKD):
        def forward(self, exchange):
            seen.append(exchange.run_student(exchange.images).logits)
            return super().forward(exchange)

    rig = Rig(lambda: LogitStandardization(Spy()))
    rig.method(rig.exchange())
    torch.testing.assert_close(seen[0].std(-1), torch.ones(8), rtol=1e-3, atol=1e-3)


def test_mlkd_masks_leave_confident_samples_out(teacher):
    sharp = torch.cat([teacher, 10 * teacher])
    student = torch.randn(12, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    mlkd_loss(student, sharp, (4.0,)).backward()
    masked = student.grad.clone()
    student.grad = None
    mlkd_loss(student, sharp, (4.0,), masked=False).backward()
    assert masked[6:].norm() < 0.3 * student.grad[6:].norm()


def test_mlkd_adds_the_strong_view():
    weak, strong = Rig(MLKD), Rig(lambda: MLKD(strong_view=0))
    plain = weak.method(weak.exchange())
    exchange = strong.exchange()
    again = strong.method(exchange)
    view = exchange.run_student(exchange.images)
    temperatures = (2.0, 3.0, 4.0, 5.0, 6.0)
    added = sum(kd_loss(view.logits, exchange.teacher.logits, temperature) for temperature in temperatures)
    torch.testing.assert_close(again - plain, added, rtol=1e-3, atol=1e-5)


def test_ctkd_starts_at_the_papers_temperature_and_reverses_its_gradient():
    method = CTKD()
    assert method.temperature.item() == pytest.approx(15.62, abs=5e-3)
    assert method.reversal(9) == method.reversal(200) == -1.0
    assert -0.03 < method.reversal(0) < 0
    exchange = Rig(CTKD).exchange()
    late = dataclasses.replace(exchange, progress=Progress(epoch=30))
    (reversed_gradient,) = torch.autograd.grad(method(late), method.theta)
    temperature = method.temperature
    loss = kd_loss(exchange.student.logits.detach(), exchange.teacher.logits, temperature.item())
    step = kd_loss(exchange.student.logits.detach(), exchange.teacher.logits, temperature.item() + 0.1)
    assert torch.sign(reversed_gradient) == -torch.sign(step - loss)


def test_scale_gradient_keeps_the_value():
    x = torch.tensor(2.0, requires_grad=True)
    y = scale_gradient(x, -0.5)
    y.backward()
    assert y.item() == 2.0
    assert x.grad.item() == -0.5


def test_cat_kd_maps_average_to_the_logits_and_borrow_the_classifiers():
    rig = Rig(CATKD)
    exchange = rig.exchange()
    feature = exchange.student.feature(rig.method.pairs[0][0])
    cams = class_activation_maps(feature, rig.student.fc)
    torch.testing.assert_close(cams.mean((2, 3)), exchange.student.logits, rtol=1e-4, atol=1e-5)
    assert not list(rig.method.parameters())
    assert not rig.method.state_dict()
    rig.method(exchange).backward()
    assert rig.student.fc.weight.grad.any()


def test_cat_kd_refuses_a_network_without_a_linear_classifier_of_the_map():
    with pytest.raises(ValueError, match="no linear classifier from the 8 channels"):
        Rig(lambda: CATKD(layers={"layer1": "layer3"}))


def test_srd_projects_even_where_widths_agree_and_refuses_one_sample():
    rig = Rig(SRD, same=True)
    assert len(list(rig.method.parameters())) == 2
    with pytest.raises(ValueError, match="at least 2 samples"):
        rig.method(rig.exchange(1))


def test_uskd_ranks_the_target_too(student, target):
    flat = torch.zeros_like(student)
    confident = student.scatter(-1, target.unsqueeze(-1), 9.0)
    others = [1 / 2, 1 / 3, 1 / 4, 1 / 5]
    row, label = confident[:1], target[:1]
    rest = row[0, [c for c in range(5) if c != label.item()]].sort(descending=True).values.log_softmax(-1)
    expected = -sum(z / sum(others) * r for z, r in zip(others, rest, strict=True))
    torch.testing.assert_close(uskd_loss(row, flat[:1], label, alpha=0.0, beta=1.0, mu=0.0), expected)


WRONG = {
    "classes differ": lambda s, t, y: kd_loss(s, t[:, :4]),
    "one sample broadcast": lambda s, t, y: kd_loss(s, t[:1]),
    "temperature": lambda s, t, y: kd_loss(s, t, 0.0),
    "dkd, labels": lambda s, t, y: dkd_loss(s, t, y[:3]),
    "dkd, soft labels": lambda s, t, y: dkd_loss(s, t, t.softmax(-1)),
    "dkd, tokens": lambda s, t, y: dkd_loss(s[None], t[None], y[None]),
    "pld, mode": lambda s, t, y: pld_loss(s, t, y, mode="other"),
    "nkd, labels": lambda s, t, y: nkd_loss(s, t, y.double()),
    "wsld, classes": lambda s, t, y: wsld_loss(s, t[:, 1:], y),
    "jsd, beta": lambda s, t, y: generalized_jsd_loss(s, t, 1.5),
    "smoothing": lambda s, t, y: label_smoothing_loss(s, y, -0.1),
    "virtual teacher, probability": lambda s, t, y: virtual_teacher_loss(s, y, 1.0),
    "virtual teacher, mode": lambda s, t, y: virtual_teacher_loss(s, y, mode="other"),
    "mlkd, temperatures": lambda s, t, y: mlkd_loss(s, t, ()),
    "lskd, one class": lambda s, t, y: logit_standardized_kd_loss(s[:, :1], t[:, :1]),
    "srd, widths": lambda s, t, y: srd_loss(s, t[:, :2]),
    "srd, exponent": lambda s, t, y: srd_loss(s, t, 0.5),
    "ofa, eps": lambda s, t, y: ofa_loss(s, t, y, 0.0),
    "uskd, weak": lambda s, t, y: uskd_loss(s, t[:, 1:], y),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused(name, student, teacher, target):
    with pytest.raises(ValueError, match="got"):
        WRONG[name](student, teacher, target)


@pytest.mark.parametrize(
    "make",
    [
        lambda: KD(temperature=-1.0),
        lambda: KD(weight=-1.0),
        lambda: PLD(mode="other"),
        lambda: CTKD(start=0.0),
        lambda: SRD(exponent=0.0),
        lambda: CATKD(resolution=0),
        lambda: MLKD(temperatures=()),
    ],
)
def test_wrong_hyper_parameters_are_refused_at_construction(make):
    with pytest.raises(ValueError, match="got"):
        make()


def test_labels_outside_the_batch_are_explained():
    rig = Rig(DKD)
    exchange = dataclasses.replace(rig.exchange(), target=None)
    with pytest.raises(ValueError, match="no label was found"):
        rig.method(exchange)


def test_strong_view_needs_networks_that_can_run():
    rig = Rig(lambda: MLKD(strong_view=0))
    exchange = dataclasses.replace(rig.exchange(), run_student=None)
    with pytest.raises(ValueError, match="run both networks"):
        rig.method(exchange)


def test_views_are_left_as_they_are():
    rig = Rig(LogitStandardization)
    exchange = rig.exchange()
    before = exchange.student.logits.clone()
    rig.method(exchange)
    assert torch.equal(exchange.student.logits, before)
    assert isinstance(exchange.student, View)
