"""Masks from labels, and the schedule of TAID."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lightning_kd.engine.exchange import Exchange, Progress, View
from lightning_kd.methods.language import TAID, ForwardKL, TopKDecoupledKL, forward_kl_loss, taid_loss
from lightning_kd.testing import Rig


def exchange(labels=None, seed=0, progress=None):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    return Exchange((), labels, View(student), [View(teacher)], progress=progress or Progress())


LABELS = torch.tensor([[3, 1, -100, 2], [0, -100, -100, 5]])


def test_ignored_labels_are_left_out():
    given = exchange(LABELS)
    expected = forward_kl_loss(given.student.logits, given.teacher.logits, LABELS != -100)
    torch.testing.assert_close(ForwardKL()(given), expected)


def test_another_index_can_be_ignored():
    given = exchange(LABELS)
    expected = forward_kl_loss(given.student.logits, given.teacher.logits, LABELS != 2)
    torch.testing.assert_close(ForwardKL(ignore_index=2)(given), expected)


def test_unshifted_labels_mark_the_position_before():
    given = exchange(LABELS)
    mask = torch.tensor([[True, False, True, False], [False, False, True, False]])
    expected = forward_kl_loss(given.student.logits, given.teacher.logits, mask)
    torch.testing.assert_close(ForwardKL(shift_labels=True)(given), expected)


def test_without_labels_all_tokens_count():
    given = exchange()
    torch.testing.assert_close(ForwardKL()(given), forward_kl_loss(given.student.logits, given.teacher.logits))


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"one label a position, \(2, 4\), got labels of shape \(2, 3\)"):
        ForwardKL()(exchange(LABELS[:, :3]))


def test_a_small_vocabulary_is_taken_whole():
    given = exchange()
    torch.testing.assert_close(TopKDecoupledKL(k=32)(given), ForwardKL()(given))


def run_taid(method, steps, total=None):
    """The interpolation and the loss of every step."""
    history = []
    for step in range(steps):
        now = Progress(step=step, fraction=step / total if total else 0.0)
        given = exchange(LABELS, seed=step, progress=now)
        history.append((method.t.item(), method(given).item(), given))
    return history


def test_taid_follows_its_schedule():
    method = TAID(t_start=0.2, t_end=0.9, alpha=0.05, beta=0.8)
    history = run_taid(method, 12, total=100)
    mask = LABELS != -100
    t, momentum, previous = 0.2, 0.0, None
    for step, (used, value, given) in enumerate(history):
        assert used == pytest.approx(t, rel=1e-5)
        student, teacher = given.student.logits, given.teacher.logits
        assert value == pytest.approx(taid_loss(student, teacher, mask, t).item(), rel=1e-4)
        target = ((1 - t) * student + t * teacher).softmax(-1)
        loss = -(target * student.log_softmax(-1)).sum(-1)[mask].mean().item()
        if previous is not None:
            momentum = 0.8 * momentum + 0.2 * (previous - loss) / (previous + 1e-15)
            moved = t + 0.05 / (1 + math.exp(-momentum)) * (1 - t)
            t = min(0.9, max(0.2 + 0.7 * step / 100, moved))
        previous = loss


def test_taid_never_falls_behind_the_ramp_and_ends_at_its_end():
    method = TAID(alpha=0.0)
    history = run_taid(method, 50, total=49)
    ramp = [0.4 + 0.6 * step / 49 for step in range(49)]
    assert [used for used, _, _ in history][2:] == pytest.approx(ramp[1:], abs=1e-6)
    assert method.t.item() == pytest.approx(1.0)


def test_taid_without_adaptation_is_the_ramp():
    method = TAID(t_start=0.0, adaptive=False)
    given = exchange(LABELS, progress=Progress(step=3, fraction=0.25))
    expected = taid_loss(given.student.logits, given.teacher.logits, LABELS != -100, 0.25)
    torch.testing.assert_close(method(given), expected)


def test_taid_advances_once_a_step_and_never_in_validation():
    method = TAID(alpha=0.1)
    run_taid(method, 3)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    method(exchange(LABELS, seed=9, progress=Progress(step=2)))
    method.eval()
    method(exchange(LABELS, seed=9, progress=Progress(step=3)))
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


def test_taid_keeps_its_schedule_in_float32():
    method = TAID().to(torch.bfloat16)
    assert method.t.dtype == torch.float32
    assert method.last_step.dtype == torch.long


def test_taid_resumes_from_its_state():
    whole, first, second = TAID(alpha=0.1), TAID(alpha=0.1), TAID(alpha=0.1)
    run_taid(whole, 6)
    run_taid(first, 3)
    second.load_state_dict(first.state_dict())
    for step in range(3, 6):
        second(exchange(LABELS, seed=step, progress=Progress(step=step)))
    assert second.t.item() == whole.t.item()


@pytest.mark.parametrize("arguments", [{"t_start": 0.9, "t_end": 0.5}, {"beta": 1.0}, {"alpha": -1.0}])
def test_taid_refuses_wrong_schedules(arguments):
    with pytest.raises(ValueError, match="got"):
        TAID(**arguments)


def test_token_methods_work_on_class_logits():
    rig = Rig(ForwardKL, "images")
    given = replace(rig.exchange(), target=None)
    assert rig.method(given).isfinite()
