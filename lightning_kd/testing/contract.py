"""The contract that every distillation method keeps, as a list of checks that need no code of the method's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lightning_kd.testing import checks, training
from lightning_kd.testing.checks import ContractError
from lightning_kd.testing.rig import Inputs, MethodFactory, inputs_for

Check = Callable[[MethodFactory, Inputs], None]

CHECKS: dict[str, Check] = {
    "scalar": checks.check_scalar,
    "gradients": checks.check_gradients,
    "deterministic": checks.check_deterministic,
    "teacher untouched": checks.check_teacher_untouched,
    "perfect student": checks.check_perfect_student,
    "half precision": checks.check_half_precision,
    "single sample": checks.check_single_sample,
    "compile": checks.check_compile,
    "copies": checks.check_copies,
    "state dict": checks.check_state_dict,
    "learns": checks.check_learns,
    "refusals": checks.check_refusals,
    "teacher output": checks.check_teacher_output,
}
"""Every check that calls the method itself, by name, in the order in which they are worth reading."""

TRAINER_CHECKS: dict[str, Check] = {
    "resume": training.check_resume,
    "two ranks": training.check_two_ranks,
}
"""The checks that train with a Trainer; they take seconds each."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: key in :data:`CHECKS` or :data:`TRAINER_CHECKS`.
        question: what the check establishes, one sentence.
        passed: whether the method passed.
        problem: the diagnosis of a failure, ``""`` for a pass.
        seconds: how long it took.
    """

    name: str
    question: str
    passed: bool
    problem: str
    seconds: float


def run_contract(
    factory: MethodFactory, inputs: Inputs | None = None, *, trainer: bool = False
) -> Iterator[CheckResult]:
    """Run every check on a method, one after another.

    Args:
        factory: makes a fresh, unbuilt method, for example the class itself.
        inputs: which tiny networks to use: images, tokens (language models) or scenes (detectors). By default what
            suits the method's family, see :func:`~lightning_kd.testing.rig.inputs_for`; images for your own.
        trainer: also run the checks that train with a Trainer.

    Yields:
        One result a check. A method that raises something unexpected fails the check; the exception is the diagnosis.

    >>> from lightning_kd.methods.logits.kd import KD
    >>> next(run_contract(KD)).passed
    True
    """
    kind = inputs or inputs_for(factory())
    for name, check in (CHECKS | TRAINER_CHECKS if trainer else CHECKS).items():
        started = time.perf_counter()
        problem = _problem(check, factory, kind)
        question = (check.__doc__ or name).splitlines()[0]
        yield CheckResult(name, question, not problem, problem, time.perf_counter() - started)


def _problem(check: Check, factory: MethodFactory, inputs: Inputs) -> str:
    try:
        check(factory, inputs)
    except ContractError as broken:
        return str(broken)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
