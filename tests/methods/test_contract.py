"""Every discovered method keeps the contract. A new method needs no code here.

The tables hold only what cannot be inferred: constructor arguments without defaults, and the loss of a perfect student
where the mathematics gives one.
"""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch

from lightning_kd.engine.exchange import UnfinishedView
from lightning_kd.methods import DistillationMethod, discover, family
from lightning_kd.testing.checks import check_perfect_student
from lightning_kd.testing.contract import CHECKS
from lightning_kd.testing.rig import Rig, inputs_for

METHODS = discover()

ARGUMENTS: dict[str, dict[str, object]] = {}
"""Arguments of the methods whose constructor requires some."""

PERFECT_STUDENT: dict[str, float] = {
    "AttentionTransfer": 0.0,
    "CATKD": 0.0,
    "CTKD": 0.0,
    "DKD": 0.0,
    "GJSD": 0.0,
    "KD": 0.0,
    "LogitStandardization": 0.0,
    "MLKD": 0.0,
    "NST": 0.0,
    "PKT": 0.0,
    "RKD": 0.0,
    "SP": 0.0,
    "TopKKD": 0.0,
    "WSLD": 0.0,
    # detection
    "CrossKD": 0.0,
    "DKDDet": 0.0,
    "FGD": 0.0,
    "LD": 0.0,
    # language
    "AdaptiveKL": 0.0,
    "ForwardKL": 0.0,
    "FusedLinearKL": 0.0,
    "ReverseKL": 0.0,
    "SkewForwardKL": 0.0,
    "SkewReverseKL": 0.0,
    "TAID": 0.0,
    "TopKDecoupledKL": 0.0,
    "TotalVariation": 0.0,
}
"""Loss of a student that equals its teacher; a method that is not listed must still give a finite one."""


def factory(name: str):
    return partial(METHODS[name], **ARGUMENTS.get(name, {}))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, check):
    CHECKS[check](factory(name), inputs_for(METHODS[name]))


@pytest.mark.parametrize("name", sorted(set(PERFECT_STUDENT) & set(METHODS)))
def test_perfect_student_has_the_known_loss(name):
    check_perfect_student(factory(name), inputs_for(METHODS[name]), PERFECT_STUDENT[name])


@pytest.mark.parametrize("name", [name for name in METHODS if inputs_for(METHODS[name]) != "scenes"])
def test_a_teacher_runs_no_further_than_it_must(name):
    rig = Rig(factory(name), inputs_for(METHODS[name]))
    if not rig.method.needs_teacher or not rig.method.needs_features or rig.method.trains_teacher:
        return
    exchange = rig.exchange()
    exchange.teachers = [UnfinishedView(exchange.teacher.features)]
    if rig.method.needs_teacher_output:
        # else declare needs_teacher_output = False: only taps are read
        with pytest.raises(RuntimeError, match="needs_teacher_output"):
            rig.method(exchange)
    else:
        assert rig.method(exchange).isfinite()


@pytest.mark.parametrize("name", METHODS)
def test_declarations(name):
    method = METHODS[name]
    assert method.__doc__, "the class docstring documents the method"
    assert method.citation is not None, "say where the method was published"
    assert family(method) != "custom"
    hints = inspect.signature(method.__init__).parameters
    untyped = [key for key, value in hints.items() if key != "self" and value.annotation is inspect.Parameter.empty]
    assert not untyped, "constructor arguments need type hints: command line and YAML are made from them"
    assert isinstance(factory(name)(), DistillationMethod)


def test_names_and_aliases_are_unique():
    names = [*METHODS, *(alias for method in METHODS.values() for alias in method.aliases)]
    assert sorted(names) == sorted(set(names))
