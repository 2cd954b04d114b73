"""Every loss against values and gradients that the methods' own reference implementations produced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_kd import functional

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "loss_cases.json").read_text())
ARRAYS = np.load(DATA / "loss_cases.npz")


FUNCTIONS: dict[str, Callable[..., Tensor]] = {name: getattr(functional, name) for name in functional.__all__}


def arguments(case: dict) -> dict[str, Tensor | list[Tensor]]:
    prefix = f"{case['id']}/"
    tensors = {
        key.removeprefix(prefix): torch.from_numpy(ARRAYS[key]) for key in ARRAYS.files if key.startswith(prefix)
    }
    inputs: dict[str, Tensor | list[Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith("grad.") and "." not in name:
            inputs[name] = tensor
    for name in case["lists"]:
        inputs[name] = [tensors[f"{name}.{i}"] for i in range(sum(key.startswith(f"{name}.") for key in tensors))]
    return inputs


def expected_gradient(case: dict, name: str) -> list[Tensor]:
    key = f"{case['id']}/grad.{name}"
    keys = [key] if key in ARRAYS.files else [f"{key}.{i}" for i in range(len(arguments(case)[name]))]
    return [torch.from_numpy(ARRAYS[key]) for key in keys]


@pytest.mark.parametrize("case", [case for case in CASES if case["function"] in FUNCTIONS], ids=lambda case: case["id"])
def test_value_and_gradient(case):
    inputs = arguments(case)
    watched = {}
    for name in case["grad"]:
        value = inputs[name]
        watched[name] = [tensor.requires_grad_() for tensor in (value if isinstance(value, list) else [value])]
    teacher = [value for name, value in inputs.items() if name.startswith("teacher")]
    teacher_tensors = [t.requires_grad_() for value in teacher for t in (value if isinstance(value, list) else [value])]

    loss = FUNCTIONS[case["function"]](**inputs, **case["kwargs"])

    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(case["expected"], rel=case["rtol"])
    loss.backward()
    for name, tensors in watched.items():
        for tensor, expected in zip(tensors, expected_gradient(case, name), strict=True):
            # Entries that cancel to nearly nothing carry the rounding of the whole gradient.
            floor = case["rtol"] * expected.abs().max().item()
            torch.testing.assert_close(tensor.grad, expected, rtol=case["rtol"], atol=floor)
    assert all(tensor.grad is None for tensor in teacher_tensors), "a gradient flowed into the teacher"


def test_no_case_is_left_out():
    assert {case["function"] for case in CASES} - set(FUNCTIONS) == set()
