"""The single checks of the contract; each raises :class:`ContractError` with a diagnosis."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from lightning_kd.detection.output import DetectionOutput
from lightning_kd.engine.exchange import Exchange, UnfinishedView, View
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.testing.rig import Inputs, MethodFactory, Rig
from lightning_kd.testing.scenes import SCENE_CLASSES, TinyDetector, map_predictions


class ContractError(AssertionError):
    """A method breaks the contract; the message says how and what to do."""


def check_scalar(factory: MethodFactory, inputs: Inputs) -> None:
    """The loss is a finite scalar in at least float32."""
    _require_loss(Rig(factory, inputs).loss(), "on tiny networks")


def check_gradients(factory: MethodFactory, inputs: Inputs) -> None:
    """Finite gradients reach the student and every trainable parameter of the method."""
    rig = Rig(factory, inputs)
    torch.manual_seed(1)
    rig.method(rig.exchange()).backward()
    _require_gradients(rig.student.named_parameters(), "student")
    if not any(_moves(parameter) for parameter in rig.student.parameters()):
        raise ContractError(
            "no gradient reaches the student: the loss does not depend on the student's output, or it was detached"
        )
    _require_gradients(rig.method.named_parameters(), "method")
    idle = [name for name, value in rig.method.named_parameters() if value.requires_grad and value.grad is None]
    if idle:
        raise ContractError(
            f"the method's parameters {idle} take no part in the loss, which breaks distributed training; use them, or "
            "register them with requires_grad=False"
        )


def check_deterministic(factory: MethodFactory, inputs: Inputs) -> None:
    """Equal seeds and inputs give bit-equal modules, losses and gradients."""
    first, second = Rig(factory, inputs), Rig(factory, inputs)
    for (name, left), (other, right) in zip(_state(first.method), _state(second.method), strict=True):
        if name != other or not torch.equal(left, right):
            raise ContractError(
                f"building twice with one seed gives different {name!r}; create modules in a fixed order"
            )
    gradients = [
        torch.autograd.grad(rig.loss(), list(rig.student.parameters()), allow_unused=True) for rig in (first, second)
    ]
    values = [rig.loss() for rig in (first, second)]
    if not torch.equal(*values):
        raise ContractError(f"equal seeds give the losses {values[0].item()!r} and {values[1].item()!r}")
    for left, right in zip(*gradients, strict=True):
        if left is not None and (right is None or not torch.equal(left, right)):
            raise ContractError("equal seeds give different gradients; draw random numbers from torch's generator only")


def check_teacher_untouched(factory: MethodFactory, inputs: Inputs) -> None:
    """No gradient flows into a frozen teacher, even where its tensors would accept one."""
    rig = Rig(factory, inputs)
    if rig.method.trains_teacher or not rig.method.needs_teacher:
        return
    rig.teacher.requires_grad_(True)
    if isinstance(rig.teacher, TinyDetector):
        # the student's features may go through the teacher's head; that gradient is theirs
        rig.teacher.head.requires_grad_(False)
    exchange = rig.exchange(teacher_grad=True)
    torch.manual_seed(1)
    rig.method(exchange).backward()
    touched = [name for name, value in rig.teacher.named_parameters() if value.grad is not None and value.grad.any()]
    if touched:
        raise ContractError(
            f"a gradient flows into the teacher (for example {touched[0]!r}): detach the teacher's tensors inside the "
            "loss function"
        )


def check_perfect_student(factory: MethodFactory, inputs: Inputs, floor: float | None = None) -> None:
    """A student equal to its teacher gets a finite loss and gradient, and ``floor`` where the maths gives one."""
    rig = Rig(factory, inputs, same=True)
    torch.manual_seed(1)
    loss = rig.method(rig.exchange())
    _require_loss(loss, "for a student equal to the teacher")
    loss.backward()
    _require_gradients(rig.student.named_parameters(), "student that equals the teacher")
    if floor is not None and not math.isclose(loss.item(), floor, rel_tol=1e-4, abs_tol=1e-5):
        raise ContractError(f"a student equal to its teacher should get the loss {floor}, got {loss.item()}")


def check_half_precision(factory: MethodFactory, inputs: Inputs) -> None:
    """Under bfloat16 autocast and on bfloat16 networks the loss stays finite and in at least float32."""
    rig = Rig(factory, inputs)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = rig.method(rig.exchange())
    _require_loss(loss, "under bfloat16 autocast")
    loss.backward()
    _require_gradients(rig.student.named_parameters(), "student under bfloat16 autocast")
    rig = Rig(factory, inputs, dtype=torch.bfloat16)
    torch.manual_seed(1)
    loss = rig.method(rig.exchange())
    _require_loss(loss, "on bfloat16 networks")
    loss.backward()
    _require_gradients(rig.student.named_parameters(), "student in bfloat16")
    if any(True for _ in rig.method.parameters()):
        return
    # Without parameters of its own the method must compute in float32: half inputs equal the same numbers in float32.
    exchange = rig.exchange()
    exact, half = rig.loss(_map_tensors(exchange, Tensor.float)), rig.loss(exchange)
    if not torch.allclose(exact, half, rtol=1e-3, atol=1e-6):
        raise ContractError(
            f"the loss of bfloat16 inputs is {half.item()}, that of the same numbers in float32 {exact.item()}: raise "
            "the inputs with at_least_float32 before computing"
        )
    with torch.autocast("cpu", torch.bfloat16):
        cast = rig.loss(exchange)
    if not torch.allclose(exact, cast, rtol=1e-3, atol=1e-6):
        raise ContractError(
            f"the loss is {cast.item()} under autocast and {exact.item()} without: autocast rounds matrix products; "
            "compute them under torch.autocast(device_type, enabled=False)"
        )


def check_single_sample(factory: MethodFactory, inputs: Inputs) -> None:
    """A batch of one works, or is refused with a ``ValueError``.

    For detectors, that one may also be an image without any box, which a data set is likely to have.
    """
    if inputs == "scenes":
        _check_image_without_boxes(Rig(factory, inputs))
    rig = Rig(factory, inputs)
    torch.manual_seed(1)
    try:
        loss = rig.method(rig.exchange(1))
    except ValueError as refusal:
        _require_explanation(refusal, "a batch of one sample")
        return
    _require_loss(loss, "for a batch of one sample (or raise a ValueError that says how many it takes)")
    if loss.requires_grad:
        loss.backward()
        _require_gradients(rig.student.named_parameters(), "student in a batch of one sample")


def check_compile(factory: MethodFactory, inputs: Inputs) -> None:
    """``torch.compile`` (tracing, no code generation) gives the eager loss and gradient."""
    rig = Rig(factory, inputs)
    exchange, parameters = rig.exchange(), list(rig.student.parameters())
    eager = rig.loss(exchange)
    torch.compiler.reset()
    method = copy.deepcopy(rig.method)
    torch.manual_seed(1)
    compiled = torch.compile(method, backend="aot_eager")(exchange)
    if not torch.allclose(eager, compiled, rtol=1e-4, atol=1e-6):
        raise ContractError(f"the eager loss is {eager.item()}, the compiled one {compiled.item()}")
    expected = torch.autograd.grad(eager, parameters, allow_unused=True, retain_graph=True)
    actual = torch.autograd.grad(compiled, parameters, allow_unused=True)
    for left, right in zip(expected, actual, strict=True):
        if (left is None) != (right is None) or (
            left is not None and right is not None and not torch.allclose(left, right, rtol=1e-3, atol=1e-5)
        ):
            raise ContractError("the compiled loss has another gradient than the eager one")


def check_copies(factory: MethodFactory, inputs: Inputs) -> None:
    """Copies made by ``deepcopy`` and by pickling compute the same loss."""
    rig = Rig(factory, inputs)
    exchange = rig.exchange()
    expected = rig.loss(exchange)
    rig.release()  # a method may hold the student, which nobody pickles while its layers are tapped
    buffer = io.BytesIO()
    try:
        torch.save(rig.method, buffer)
    except Exception as error:
        raise ContractError(
            f"the method cannot be pickled ({type(error).__name__}: {error}); keep lambdas, hooks and open files out "
            "of its attributes"
        ) from error
    buffer.seek(0)
    copies = (copy.deepcopy(rig.method), torch.load(buffer, weights_only=False))
    rig.tap()
    for copied in copies:
        if not torch.equal(rig.loss(exchange, copied), expected):
            raise ContractError("a copy of the method computes another loss; state is shared or lost in copying")


def check_state_dict(factory: MethodFactory, inputs: Inputs) -> None:
    """A fresh method with the loaded ``state_dict`` continues as the old one would."""
    rig, other = Rig(factory, inputs), Rig(factory, inputs, seed=7)
    # On resume the networks have their weights back before the method is called.
    other.student.load_state_dict(rig.student.state_dict())
    other.teacher.load_state_dict(rig.teacher.state_dict())
    for seed in range(2):
        # Let buffers (memory banks, schedules, running statistics) move before they are saved.
        torch.manual_seed(seed)
        rig.method(rig.exchange(seed=seed)).backward()
    other.method.load_state_dict(copy.deepcopy(rig.method.state_dict()))
    exchange = rig.exchange()
    before, after = rig.loss(exchange), rig.loss(exchange, other.method)
    if not torch.equal(before, after):
        raise ContractError(
            f"after load_state_dict the loss is {after.item()}, it was {before.item()}: state is kept in plain "
            "attributes; register it as parameters or buffers, or save it with get_extra_state"
        )


def check_learns(factory: MethodFactory, inputs: Inputs) -> None:
    """Twenty steps of gradient descent on one batch lower the loss."""
    rig = Rig(factory, inputs)
    torch.manual_seed(0)
    rig.method(rig.exchange())  # some losses fix a constant on the first batch; compare values after that
    before = rig.loss().item()
    parameters = rig.trainable()
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    for step in range(20):
        torch.manual_seed(step)
        optimizer.zero_grad()
        rig.method(rig.exchange()).backward()
        _scale_gradients(parameters)
        optimizer.step()
    after = rig.loss().item()
    if not after < before:
        raise ContractError(
            f"twenty training steps took the loss from {before} to {after}; is the gradient that of the loss?"
        )


def check_refusals(factory: MethodFactory, inputs: Inputs) -> None:
    """Missing teachers, missing labels and mismatched logits are refused with a ``ValueError`` (or do not matter)."""
    rig = Rig(factory, inputs)
    exchange = rig.exchange()
    if rig.method.needs_teacher:
        _require_refusal(rig, _changed(exchange, teachers=[]), "no teacher", must=True)
        for what, teacher in _unsuitable_teachers(rig, exchange):
            _require_refusal(rig, _changed(exchange, teachers=[teacher]), what)
    if rig.method.needs_target:
        _require_refusal(rig, rig.exchange(target=False), "no labels", must=True)


def check_teacher_output(factory: MethodFactory, inputs: Inputs) -> None:
    """A method that says that it reads the teacher's taps only does without the teacher's output."""
    rig = Rig(factory, inputs)
    if not rig.method.needs_teacher or rig.method.needs_teacher_output:
        return
    exchange = rig.exchange()
    unfinished = _changed(exchange, teachers=[UnfinishedView(exchange.teacher.features)])
    try:
        loss = rig.loss(unfinished)
    except RuntimeError as error:
        raise ContractError(f"needs_teacher_output is False, but forward fails without it: {error}") from error
    if not torch.equal(loss, rig.loss(exchange)):
        raise ContractError("needs_teacher_output is False, but the loss depends on the teacher's output")


def _require_loss(loss: object, where: str) -> None:
    if not isinstance(loss, Tensor) or loss.shape != ():
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ContractError(f"forward must return a scalar tensor, got {found} {where}; reduce with .mean()")
    if not loss.isfinite():
        raise ContractError(f"the loss is {loss.item()} {where}")
    if loss.dtype not in (torch.float32, torch.float64):
        raise ContractError(f"the loss is {loss.dtype} {where}; compute it in at least float32 (at_least_float32)")


def _require_gradients(parameters: Iterable[tuple[str, nn.Parameter]], whose: str) -> None:
    for name, parameter in parameters:
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise ContractError(f"the gradient of {name!r} of the {whose} is not finite")


def _require_refusal(rig: Rig, exchange: Exchange, what: str, *, must: bool = False) -> None:
    torch.manual_seed(1)
    try:
        loss = copy.deepcopy(rig.method)(exchange)
    except (ValueError, TypeError) as refusal:
        _require_explanation(refusal, what)
        return
    except Exception as error:
        raise ContractError(
            f"given {what}, the method fails with {type(error).__name__}: {error}; raise a ValueError that names what "
            "was given, what was expected and what to do"
        ) from error
    if must:
        raise ContractError(f"given {what}, the method returns {loss}; it declares that it needs it")
    _require_loss(loss, f"given {what}")


def _unsuitable_teachers(rig: Rig, exchange: Exchange) -> Iterator[tuple[str, View]]:
    teacher = exchange.teacher
    if not isinstance(teacher.output, DetectionOutput):
        wider = torch.cat([teacher.logits, teacher.logits[..., :1]], dim=-1)
        yield "a teacher of other classes", View(wider, teacher.features)
        return
    others = {
        "a teacher of other classes": TinyDetector(12, "gfl", SCENE_CLASSES + 1).eval(),
        "a teacher whose boxes are coded in another way": TinyDetector(12, "retinanet").eval(),
    }
    for what, other in others.items():
        other.keep_towers = True
        with torch.no_grad():
            yield what, View(other(*exchange.inputs), teacher.features)
    bare = DetectionOutput(teacher.output.pyramid, teacher.output.image_size)
    yield "a teacher with neither a one-stage head nor a second stage", View(bare, teacher.features)


def _check_image_without_boxes(rig: Rig) -> None:
    torch.manual_seed(1)
    loss = rig.method(rig.exchange(1, boxes=False))
    _require_loss(loss, "for an image without boxes")
    if loss.requires_grad:
        loss.backward()
        _require_gradients(rig.student.named_parameters(), "student for an image without boxes")


def _require_explanation(refusal: Exception, what: str) -> None:
    if len(str(refusal)) < 30:
        raise ContractError(f"the refusal of {what} explains nothing: {refusal!s}")


def _changed(exchange: Exchange, **changes: object) -> Exchange:
    changed = copy.copy(exchange)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _map_tensors(exchange: Exchange, function: Callable[[Tensor], Tensor]) -> Exchange:
    def view(source: View) -> View:
        detected = isinstance(source.output, DetectionOutput)
        output = map_predictions(source.output, function) if detected else function(source.logits)
        return View(output, {name: function(value) for name, value in source.features.items()})

    inputs: Sequence[object] = [
        function(x) if isinstance(x, Tensor) and x.is_floating_point() else x for x in exchange.inputs
    ]
    return _changed(
        exchange, student=view(exchange.student), teachers=[view(v) for v in exchange.teachers], inputs=tuple(inputs)
    )


def _state(method: DistillationMethod) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in method.state_dict().items() if isinstance(value, Tensor)]


def _moves(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def _scale_gradients(parameters: list[nn.Parameter]) -> None:
    """Give the whole gradient unit length: losses of any scale then take equally long steps."""
    total = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    for parameter in parameters:
        if parameter.grad is not None and total > 0:
            parameter.grad.div_(total)
