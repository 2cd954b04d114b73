"""What an author can do about a failed check."""

from __future__ import annotations

import re

_BY_PROBLEM: tuple[tuple[str, str], ...] = (
    (
        r"(loss is (nan|-?inf)|loss was (nan|-?inf)|not finite)",
        "NaN and infinity come from log(softmax(x)), log of a zero, a division by zero or the square root at zero: use "
        "F.log_softmax, clamp denominators, and add a small number inside the root.",
    ),
    (
        r"must return a scalar",
        "reduce to one number: sum over classes, then .mean() over the batch; return the tensor, not .item().",
    ),
    (
        r"(size of tensor|shapes? cannot be|must match|shape '|mat1 and mat2|[Ss]ize mismatch|broadcast)",
        "student and teacher have different shapes here. Logits are (B, C) on both sides; feature maps differ in "
        "channels and size, so build a connector in build(context), such as lightning_kd.connectors.ConvRegressor.",
    ),
    (
        r"must implement forward",
        "write forward(self, exchange) and return the loss, for example from exchange.student.logits and "
        "exchange.teacher.logits.",
    ),
    (
        r"no logits found .* DetectionOutput",
        "a detector has no logits: read exchange.student.output.dense (one stage) or .regions (two). A method for "
        "classifiers is checked without --inputs scenes.",
    ),
    (
        r"(no attribute '(pyramid|dense|regions|image_size)'|needs ground-truth boxes)",
        "only detectors have that, and the method was tried on other networks: check it with --inputs scenes.",
    ),
    (
        r"(no attribute|AttributeError)",
        "an exchange has inputs, target, labels, student, teacher, teachers, task_loss, progress and batch; student "
        "and teacher have logits, output and feature(name).",
    ),
    (
        r"the tap .* did not fire",
        "name the layers in the constructor, super().__init__(weight, layers={'layer3': 'layer3'}), or use "
        "layers='auto' and read them with self.student_features(exchange).",
    ),
)

BY_CHECK: dict[str, str] = {
    "scalar": "run the method by hand on tensors of shape (8, 5) and look at what it returns.",
    "gradients": "compute the loss from exchange.student without .detach(), .item(), torch.no_grad or numpy.",
    "deterministic": "draw random numbers with torch functions (torch.randn, torch.randperm) and no generator of your "
    "own; avoid random, numpy.random, hash(), sets and counters.",
    "teacher untouched": "call .detach() on every teacher tensor inside the loss function, or set trains_teacher = "
    "True if the teacher is meant to learn.",
    "perfect student": "a student equal to its teacher must not meet 0/0 or log(0): look at normalisations, and at "
    "distances that are zero there.",
    "half precision": "start the loss with `.float()` on tensors of half precision, as "
    "lightning_kd.methods.checks.at_least_float32 does.",
    "single sample": "the last batch of an epoch may hold one sample: handle it (no statistics over one sample), or "
    "raise a ValueError that says how many samples it takes.",
    "compile": "keep Python from looking at values: no .item(), .tolist(), numpy or `if tensor:` in forward; use "
    "torch.where.",
    "copies": "keep plain values, tensors and modules in attributes; no lambdas, open files or views of other modules.",
    "state dict": "keep what must survive a checkpoint in register_buffer(...) or parameters, not in plain attributes.",
    "learns": "the gradient must be that of the loss: look at every .detach(), at torch.no_grad and at a "
    "backward of your own.",
    "refusals": "read labels through exchange.labels and the teacher through exchange.teacher, which refuse by "
    "themselves; and where the shapes of the logits differ, raise ValueError before using them.",
    "teacher output": "leave needs_teacher_output = True, the default, unless forward reads the teacher's taps alone.",
    "resume": "keep state in buffers, and take the epoch from exchange.progress instead of counting calls.",
    "two ranks": "statistics over the batch must be gathered across ranks or kept out of buffers; every parameter must "
    "take part in every step.",
    "digits": "run it under your own training script to see the whole traceback.",
}
"""By name of a check, the usual remedy."""


def advice_for(check: str, problem: str) -> str:
    """What to do about a problem, a sentence or two.

    Args:
        check: the check that failed.
        problem: its diagnosis.
    """
    if check == "refusals":  # its problem quotes the very error that should have been another
        return BY_CHECK[check]
    for pattern, advice in _BY_PROBLEM:
        if re.search(pattern, problem):
            return advice
    return BY_CHECK.get(check, "")
