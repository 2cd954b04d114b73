"""The fused loss equals the loss on whole logits, in value and gradients, and never holds whole logits."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.functional import (
    adaptive_kl_loss,
    forward_kl_loss,
    fused_linear_divergence,
    taid_loss,
    topk_decoupled_kl_loss,
)
from lightning_kd.methods.language import FusedLinearKL
from lightning_kd.methods.language.fused_linear import DIVERGENCES

TOKENS, VOCABULARY, STUDENT, TEACHER = (3, 5), 37, 8, 12
LOSSES = {
    **DIVERGENCES,
    "taid": partial(taid_loss, t=0.4),
    "topk_decoupled_kl": partial(topk_decoupled_kl_loss, k=4, temperature=2.0),
    "adaptive_kl": adaptive_kl_loss,
}


def sides(dtype=torch.float64, *, bias=True):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    student = {"hidden": draw(*TOKENS, STUDENT), "weight": draw(VOCABULARY, STUDENT, scale=0.5)}
    teacher = {"hidden": draw(*TOKENS, TEACHER), "weight": draw(VOCABULARY, TEACHER, scale=0.5)}
    if bias:
        student["bias"], teacher["bias"] = draw(VOCABULARY), draw(VOCABULARY)
    for value in student.values():
        value.requires_grad_()
    return student, teacher


def fused(student, teacher, mask=None, **options):
    return fused_linear_divergence(
        student["hidden"],
        student["weight"],
        teacher["hidden"],
        teacher["weight"],
        mask,
        student_bias=student.get("bias"),
        teacher_bias=teacher.get("bias"),
        **options,
    )


def dense(student, teacher, mask=None, divergence=forward_kl_loss):
    logits = (F.linear(side["hidden"], side["weight"], side.get("bias")) for side in (student, teacher))
    return divergence(*logits, mask)


def gradients(loss, student):
    return torch.autograd.grad(3 * loss, list(student.values()))


MASK = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 0, 1, 0], [1, 1, 1, 1, 0]], dtype=torch.bool)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all tokens", "masked"])
@pytest.mark.parametrize("chunk", [None, 1, 4, 15, 100])
@pytest.mark.parametrize("name", LOSSES)
def test_equals_the_loss_on_whole_logits(name, chunk, mask):
    student, teacher = sides()
    ours = fused(student, teacher, mask, divergence=LOSSES[name], chunk=chunk)
    theirs = dense(student, teacher, mask, LOSSES[name])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    for left, right in zip(gradients(ours, student), gradients(theirs, student), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_float32_is_within_a_millionth():
    student, teacher = sides(torch.float32, bias=False)
    ours, theirs = fused(student, teacher, chunk=4), dense(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for left, right in zip(gradients(ours, student), gradients(theirs, student), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)


def test_the_gradient_is_that_of_the_value():
    student, teacher = sides()
    assert torch.autograd.gradcheck(
        lambda hidden, weight, bias: fused({"hidden": hidden, "weight": weight, "bias": bias}, teacher, MASK, chunk=3),
        tuple(student.values()),
    )


def test_half_precision_gives_a_float32_loss_and_gradients_of_the_parameters_type():
    exact, teacher = sides(torch.float32)
    student = {name: value.detach().bfloat16().requires_grad_() for name, value in exact.items()}
    loss = fused(student, {name: value.bfloat16() for name, value in teacher.items()}, chunk=4)
    assert loss.dtype == torch.float32
    expected = gradients(dense(exact, teacher), exact)
    for left, right in zip(gradients(loss, student), expected, strict=True):
        assert left.dtype == torch.bfloat16
        assert F.cosine_similarity(left.float().flatten(), right.flatten(), dim=0) > 0.999


def test_under_autocast_it_is_what_the_whole_logits_give():
    student, teacher = sides(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = fused(student, teacher, chunk=4), dense(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    for left, right in zip(gradients(ours, student), gradients(theirs, student), strict=True):
        assert left.dtype == torch.float32
        assert F.cosine_similarity(left.flatten(), right.flatten(), dim=0) > 0.9995


def test_a_frozen_head_gets_no_gradient_and_costs_none():
    student, teacher = sides()
    student["weight"].requires_grad_(False)
    student["bias"].requires_grad_(False)
    fused(student, teacher, chunk=4).backward()
    assert student["weight"].grad is None
    reference, _ = sides()
    torch.testing.assert_close(student["hidden"].grad, gradients(dense(reference, teacher), reference)[0] / 3)


def test_no_gradient_reaches_the_teacher():
    student, teacher = sides()
    for value in teacher.values():
        value.requires_grad_()
    fused(student, teacher).backward()
    assert all(value.grad is None for value in teacher.values())


def test_nothing_valid_is_a_zero_with_zero_gradients():
    student, teacher = sides()
    loss = fused(student, teacher, torch.zeros(TOKENS, dtype=torch.bool))
    assert loss.item() == 0
    assert all(not value.any() for value in gradients(loss, student))


def test_without_gradients_only_the_value_is_computed():
    student, teacher = sides()
    with torch.no_grad():
        loss = fused(student, teacher, chunk=4)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, dense(student, teacher).detach())


def peak_bytes(run):
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    sizes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(sizes, initial=0))


def test_memory_does_not_grow_with_tokens_times_vocabulary():
    tokens, vocabulary, width = 512, 4096, 16
    hidden, weight = torch.randn(tokens, width, requires_grad=True), torch.randn(vocabulary, width, requires_grad=True)
    taught, head = torch.randn(tokens, width), torch.randn(vocabulary, width)

    def by_chunks():
        loss = fused_linear_divergence(hidden, weight, taught, head, chunk=8)
        return torch.autograd.grad(loss, (hidden, weight))

    def whole():
        return torch.autograd.grad(forward_kl_loss(hidden @ weight.T, taught @ head.T), (hidden, weight))

    assert peak_bytes(whole) > 3 * tokens * vocabulary * 4
    assert peak_bytes(by_chunks) < peak_bytes(whole) / 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 0}, "chunk must be at least 1 token, got 0"),
        ({"mask": torch.ones(3, 4, dtype=torch.bool)}, r"expected a mask of shape \(3, 5\)"),
        ({"student_weight": torch.ones(37, 9)}, r"\(3, 5, 8\) and \(37, 9\) for the student"),
        ({"teacher_weight": torch.ones(36, 12)}, r"the same tokens and vocabulary.*\(37, 8\) and \(36, 12\)"),
        ({"teacher_hidden": torch.ones(3, 6, 12)}, r"\(3, 5, 8\) and \(3, 6, 12\)"),
        ({"student_bias": torch.ones(3)}, r"a bias of shape \(37,\) for the student, got \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    arguments = {
        "student_hidden": torch.ones(*TOKENS, STUDENT),
        "student_weight": torch.ones(VOCABULARY, STUDENT),
        "teacher_hidden": torch.ones(*TOKENS, TEACHER),
        "teacher_weight": torch.ones(VOCABULARY, TEACHER),
    }
    with pytest.raises(ValueError, match=message):
        fused_linear_divergence(**{**arguments, **change})


class Language(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding, self.body = nn.Embedding(VOCABULARY, width), nn.Linear(width, width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)


def built(method, student, teacher, labels):
    views = [
        View(network.lm_head(hidden), {"lm_head:input": hidden})
        for network, hidden in ((student, torch.randn(2, 4, STUDENT)), (teacher, torch.randn(2, 4, TEACHER)))
    ]
    exchange = Exchange((), labels, views[0], [views[1]])
    method.pairs = [("lm_head:input", "lm_head:input")]
    method.build(BuildContext(exchange, student, [teacher]))
    return exchange


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_method_counts_the_valid_tokens_of_the_batch(divergence):
    torch.manual_seed(0)
    student, teacher = Language(STUDENT), Language(TEACHER)
    labels = torch.tensor([[3, 1, -100, 2], [0, -100, -100, 5]])
    method = FusedLinearKL(divergence, chunk=3)
    exchange = built(method, student, teacher, labels)
    expected = DIVERGENCES[divergence](exchange.student.logits, exchange.teacher.logits, labels != -100)
    torch.testing.assert_close(method(exchange), expected)
    assert not list(method.parameters())


def test_a_layer_that_is_no_head_is_refused():
    method = FusedLinearKL(layers={"embedding:input": "lm_head:input"})
    method.pairs = [("embedding:input", "lm_head:input")]
    with pytest.raises(ValueError, match="'embedding:input' of Language is not the input of a linear layer"):
        method.build(BuildContext(Exchange((), None, View(None), []), Language(4), [Language(4)]))


def test_unknown_divergences_are_refused():
    with pytest.raises(ValueError, match=r"divergence must be one of forward_kl, .*, got 'kl'"):
        FusedLinearKL("kl")
