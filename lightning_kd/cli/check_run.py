"""Run `lightning-kd check` on one method: the contract, then the digits, then the verdict."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console

from lightning_kd.cli.check_digits import DigitsOutcome, train_on_digits
from lightning_kd.cli.check_load import Candidate
from lightning_kd.cli.check_report import contract_table, print_digits, problem_text
from lightning_kd.cli.output import console
from lightning_kd.methods.load_file import author_line
from lightning_kd.testing import CHECKS, TRAINER_CHECKS, CheckResult, run_contract
from lightning_kd.testing.rig import Inputs

FIRST = "scalar"
"""Without a proper loss every other check fails as well, and says less about the reason."""

FOLLOW = {"deterministic": {"half precision", "compile", "copies", "state dict", "learns", "resume"}}
"""Checks that compare two runs, and so cannot pass when no two runs are equal."""


def check_candidate(candidate: Candidate, inputs: Inputs, *, digits: bool) -> bool:
    """Check a method and print the report.

    Args:
        candidate: the method.
        inputs: what the tiny networks see.
        digits: whether to train on the digits as well.

    Returns:
        Whether everything passed.
    """
    out = console()
    out.print(f"[bold]{candidate.name}[/bold]  {candidate.file}", highlight=False, soft_wrap=True)
    with _one_thread():
        results = _contract(out, candidate, inputs)
        out.print(contract_table(results))
        _explain(out, candidate, inputs, results)
        outcome = None
        if digits and not _stopped(results):
            with out.status("training on handwritten digits"):
                outcome = train_on_digits(candidate)
            print_digits(out, outcome)
    out.print(_verdict(candidate, results, outcome), highlight=False, soft_wrap=True)
    return all(result.passed for result in results) and not (outcome is not None and outcome.failed)


def _contract(out: Console, candidate: Candidate, inputs: Inputs) -> list[CheckResult]:
    results: list[CheckResult] = []
    # what a broken method makes PyTorch warn of is diagnosed below
    with out.status("contract") as status, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for result in run_contract(candidate.make, inputs, trainer=True):
            results.append(result)
            status.update(f"contract: {len(results)} of {_planned()} checks done")
            if _stopped(results):
                break
    return results


def _planned() -> int:
    return len(CHECKS) + len(TRAINER_CHECKS)


def _stopped(results: list[CheckResult]) -> bool:
    return any(result.name == FIRST and not result.passed for result in results)


def _explain(out: Console, candidate: Candidate, inputs: Inputs, results: list[CheckResult]) -> None:
    failed = {result.name: result.problem for result in results if not result.passed}
    followers = {name: cause for cause, names in FOLLOW.items() if cause in failed for name in names & failed.keys()}
    # checks that fail for one reason are reported once
    grouped: dict[str, list[str]] = {}
    for name, problem in failed.items():
        if name not in followers:
            grouped.setdefault(problem, []).append(name)
    for problem, names in grouped.items():
        where = _where(candidate, names[0], inputs)
        out.print(problem_text(problem, names, where), soft_wrap=True, highlight=False)
    for cause in sorted(set(followers.values())):
        names = [name for name in failed if followers.get(name) == cause]
        out.print(f"[bold red]✗ {', '.join(names)}[/bold red]: see again when `{cause}` passes", highlight=False)


def _where(candidate: Candidate, check: str, inputs: Inputs) -> str:
    """The author's line that raises, found by doing the check once more."""
    if check not in CHECKS:  # a check with processes or a Trainer of its own
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            CHECKS[check](candidate.make, inputs)
    except Exception as error:
        # a check that objects to a value stands in no line of the author's; one that caught an exception chains it
        return author_line(error.__cause__ or error, candidate.file)
    return ""


def _verdict(candidate: Candidate, results: list[CheckResult], outcome: DigitsOutcome | None) -> str:
    failed = sum(not result.passed for result in results)
    checks = f"{failed} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed"
    if _stopped(results):
        checks = (
            f"the check `{FIRST}` failed; the other {_planned() - len(results)} need a proper loss and were not run"
        )
    trained = ""
    if outcome is not None and (outcome.failed or outcome.trained):
        trained = ", the training on digits failed" if outcome.failed else ", trains on digits"
    colour = "red" if failed or (outcome is not None and outcome.failed) else "green"
    return f"[bold {colour}]{candidate.name}: {checks}{trained}[/bold {colour}]"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks as tiny as these are faster without threads, on a busy machine by far."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
