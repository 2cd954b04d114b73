import copy
import io
import math
from dataclasses import replace
from typing import get_type_hints

import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_kd.engine.exchange import Progress
from lightning_kd.methods import discover
from lightning_kd.methods.logits.kd import KD
from lightning_kd.schedules import (
    Cosine,
    Curriculum,
    Linear,
    Product,
    Scheduled,
    StepWarmUp,
    TAIDSchedule,
    WarmUp,
    value_at,
)
from lightning_kd.testing import Rig
from lightning_kd.testing.rig import inputs_for


def at(schedule, **progress):
    return schedule(Progress(**progress))


def test_warm_up_counts_epochs_from_one():
    assert at(WarmUp(20), epoch=0) == 0.05
    assert at(WarmUp(20), epoch=19) == 1
    assert at(WarmUp(20), epoch=200) == 1


def test_warm_up_may_count_steps():
    schedule = 2 * StepWarmUp(500)
    assert [at(schedule, step=step) for step in (0, 250, 500, 10**6)] == [0, 1, 2, 2]
    assert at(schedule, step=250, epoch=7) == 1
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        StepWarmUp(0)


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_ends_and_middle(kind):
    for schedule, key, last in ((kind(2, 6), "fraction", 1.0), (kind(2, 6, epochs=8), "epoch", 8)):
        assert at(schedule, **{key: 0}) == 2
        assert at(schedule, **{key: last}) == pytest.approx(6)
        assert at(schedule, **{key: last / 2}) == pytest.approx(4)
    assert at(kind(2, 6, epochs=8), epoch=30) == pytest.approx(6)


def test_cosine_is_flat_at_the_ends():
    assert at(Cosine(0, 1), fraction=0.01) < at(Linear(0, 1), fraction=0.01) / 10
    assert at(Cosine(0, 1), fraction=1 / 3) == pytest.approx(0.25)


def test_curriculum_rises_from_near_zero_to_one():
    values = [at(Curriculum(10), epoch=epoch) for epoch in range(12)]
    assert values[0] == pytest.approx((1 - math.cos(math.pi / 10)) / 2)
    assert values == sorted(values)
    assert values[9] == values[11] == pytest.approx(1)


def test_schedules_multiply():
    schedule = 0.9 * WarmUp(2) * Linear(1, 0)
    assert at(schedule, epoch=0, fraction=0.5) == pytest.approx(0.9 * 0.5 * 0.5)
    assert at(WarmUp(2) * 3, epoch=5) == 3
    with pytest.raises(TypeError):
        WarmUp(2) * "3"


def test_a_method_takes_a_schedule():
    assert KD(weight=0.9 * WarmUp(10)).weight_at(Progress(epoch=4)) == pytest.approx(0.45)
    assert value_at(WarmUp(2), Progress()) == value_at(0.5, Progress()) == 0.5


def test_refusals():
    for wrong in (lambda: WarmUp(0), lambda: Linear(0, 1, epochs=0), lambda: Curriculum(-1)):
        with pytest.raises(ValueError, match="at least 1"):
            wrong()
    with pytest.raises(ValueError, match=r"start=0\.9"):
        TAIDSchedule(start=0.9, end=0.5)


@pytest.mark.parametrize(
    "config",
    [
        {"class_path": "lightning_kd.schedules.WarmUp", "init_args": {"epochs": 20}},
        {"class_path": "lightning_kd.schedules.TAIDSchedule", "init_args": {"start": 0.2}},
        {
            "class_path": "lightning_kd.schedules.Product",
            "init_args": {
                "factors": [{"class_path": "lightning_kd.schedules.WarmUp", "init_args": {"epochs": 2}}],
                "scale": 2.0,
            },
        },
    ],
)
def test_made_from_a_configuration(config):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(KD, "kd")
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    made = instantiate(parser.parse_object({"kd": {"weight": config}})).kd.weight
    assert type(made).__name__ == config["class_path"].rpartition(".")[2]
    assert isinstance(at(made), float)


def taid_reference(losses, steps, start, end, alpha, beta):
    """The recurrence as published, except that the ramp is that of the step about to be taken."""
    t, momentum, previous, values = start, 0.0, None, []
    for step in range(steps):
        t = min(end, max(start + (end - start) * step / steps, t))
        values.append(t)
        if previous is not None:
            momentum = beta * momentum + (1 - beta) * (previous - losses[step]) / (previous + 1e-15)
            t = t + alpha / (1 + math.exp(-momentum)) * (1 - t)
        previous = losses[step]
    return values


def run(schedule, losses, steps, first=0):
    values = []
    for step in range(first, len(losses)):
        values.append(at(schedule, step=step, fraction=step / steps))
        schedule.observe(torch.tensor(losses[step], dtype=torch.float64))
    return values


def losses_of(steps):
    return [2.0 / (1 + 0.1 * step) + 0.3 * math.sin(step) for step in range(steps)]


@pytest.mark.parametrize("alpha", [5e-4, 0.5])
def test_taid_follows_the_recurrence(alpha):
    losses = losses_of(50)
    values = run(TAIDSchedule(0.2, 1.0, alpha, 0.9), losses, 50)
    assert values == pytest.approx(taid_reference(losses, 50, 0.2, 1.0, alpha, 0.9))
    assert values == sorted(values)
    assert (max(value - (0.2 + 0.8 * step / 50) for step, value in enumerate(values)) > 0.1) == (alpha == 0.5)


def test_taid_hurries_when_the_loss_falls():
    falling, rising = TAIDSchedule(0.2, alpha=0.5, beta=0.0), TAIDSchedule(0.2, alpha=0.5, beta=0.0)
    run(falling, [1.0, 0.1], 1000)
    run(rising, [1.0, 3.0], 1000)
    assert at(falling) > at(rising)


def test_taid_without_adaption_is_the_ramp():
    losses = losses_of(20)
    assert run(TAIDSchedule(0.4, 1.0, adaptive=False), losses, 20) == pytest.approx(
        [0.4 + 0.6 * step / 20 for step in range(20)]
    )


def test_taid_resumes_inside_a_method():
    losses = losses_of(30)
    whole = run(TAIDSchedule(alpha=0.1), losses, 30)
    first = KD(weight=2.0 * TAIDSchedule(alpha=0.1))
    run(first.weight.factors[0], losses[:12], 30)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = KD(weight=2.0 * TAIDSchedule(alpha=0.1))
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert run(second.weight.factors[0], losses, 30, first=12) == whole[12:]


def test_taid_forgets_a_loss_that_is_not_finite():
    schedule, other = TAIDSchedule(alpha=0.5), TAIDSchedule(alpha=0.5)
    run(schedule, [2.0, math.nan, 1.0], 10**12)
    run(other, [2.0, 1.0], 10**12)
    assert math.isfinite(at(schedule))
    assert at(schedule) == pytest.approx(at(other), rel=1e-9)


def test_representation_shows_the_arguments():
    assert repr(WarmUp(20)) == "WarmUp(epochs=20)"


def test_copies_are_independent():
    schedule = Product([TAIDSchedule(alpha=0.5)])
    copied = copy.deepcopy(schedule)
    run(schedule.factors[0], [2.0, 1.0, 0.5], 1000)
    assert at(copied) == 0.4


def temperature_methods() -> list[str]:
    accepted = []
    for name, method in discover().items():
        hints = get_type_hints(method.__init__)
        if hints.get("temperature") == Scheduled:
            accepted.append(name)
    return accepted


def test_most_methods_with_a_temperature_take_a_schedule() -> None:
    online = {"DML", "KDCL", "BDKD", "SwitOKD"}
    assert {"KD", "DKD", "DIST", "NKD", "PLD", "WSLD", "WTTM", *online} <= set(temperature_methods())


@pytest.mark.parametrize("name", temperature_methods())
def test_a_scheduled_temperature_is_that_of_the_moment(name: str) -> None:
    method = discover()[name]
    inputs = inputs_for(method)
    fixed, other = Rig(lambda: method(temperature=2.0), inputs), Rig(lambda: method(temperature=3.0), inputs)
    scheduled = Rig(lambda: method(temperature=Linear(1.0, 3.0)), inputs)
    exchange = fixed.exchange()
    torch.manual_seed(1)
    expected = fixed.method(exchange)
    torch.manual_seed(1)
    halfway = scheduled.method(replace(exchange, progress=Progress(fraction=0.5)))
    torch.manual_seed(1)
    assert not torch.equal(expected, other.method(exchange))
    assert torch.equal(expected, halfway)
