"""Situations that every feature method must cope with: other architectures, extreme values, half precision."""

import inspect

import pytest
import torch
from torch import nn

from lightning_kd.methods import features
from lightning_kd.methods.base import DistillationMethod

METHODS = [
    value
    for value in vars(features).values()
    if inspect.isclass(value)
    and issubclass(value, DistillationMethod)
    and value.__module__.startswith(features.__name__)
]

CNN = [(4, 8, 8, 8), (4, 12, 4, 4), (4, 16, 2, 2)]
VIT = [(4, 17, 24), (4, 17, 24), (4, 17, 24)]


def make(method, student_shapes, teacher_shapes, build, make_exchange, scale=1.0, dtype=torch.float32):
    if method.layers == "penultimate":
        student_shapes, teacher_shapes = [(4, student_shapes[-1][-1])], [(4, teacher_shapes[-1][-1])]
    student = [(scale * torch.randn(shape)).to(dtype).requires_grad_() for shape in student_shapes]
    teacher = [(scale * torch.randn(shape)).to(dtype) for shape in teacher_shapes]
    averaged = _averaged(teacher[-1])
    head = nn.Linear(averaged.shape[1], 3).to(dtype)
    logits = head(averaged).detach()
    method = build(method, student, teacher, head, logits)
    if method.has_setup_pass:
        with torch.no_grad():
            method.observe(make_exchange(student, teacher, logits=logits))
        method.finish_setup()
    return method, student, teacher, logits


def _averaged(feature):
    """What a classifier on average pooling would read; a class token does not count."""
    if feature.dim() == 3:
        return feature[:, 1:].mean(1)
    return feature.flatten(2).mean(2) if feature.dim() == 4 else feature


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("student_shapes", "teacher_shapes"),
    [(CNN, [(4, 16, 16, 16), (4, 20, 8, 8), (4, 24, 4, 4)]), (CNN, VIT), (VIT, CNN)],
    ids=["cnn to cnn", "cnn to vit", "vit to cnn"],
)
def test_architectures_may_differ(cls, student_shapes, teacher_shapes, build, exchange):
    method, student, teacher, logits = make(cls(), student_shapes, teacher_shapes, build, exchange)
    loss = method(exchange(student, teacher, logits=logits))
    loss.backward()
    assert loss.isfinite()
    gradients = [feature.grad for feature in student if feature.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("kind", ["huge", "tiny", "zero", "bfloat16", "float16"])
def test_extreme_and_half_precision_features(cls, kind, build, exchange):
    scale = {"huge": 1e4, "tiny": 1e-4, "zero": 0.0}.get(kind, 1.0)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(kind, torch.float32)
    method, student, teacher, logits = make(cls(), CNN, CNN, build, exchange, scale, dtype)
    loss = method(exchange(student, teacher, logits=logits))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(feature.grad.isfinite().all() for feature in student if feature.grad is not None)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_the_loss_stays_in_full_precision_under_autocast(cls, build, exchange):
    method, student, teacher, logits = make(cls(), CNN, CNN, build, exchange)
    method.eval()
    expected = method(exchange(student, teacher, logits=logits))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(exchange(student, teacher, logits=logits))
    assert loss.dtype == torch.float32
    tolerance = 1e-6 if not list(method.parameters()) else 0.1
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
def test_every_method_names_its_paper(cls):
    assert cls.citation is not None
    assert cls.citation.year > 2013
    assert cls.aliases
