"""Level three: the students of an entry, trained again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kd_bench.entries import Entry
from kd_bench.environment import describe_environment
from kd_bench.errors import UserError
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol
from kd_bench.results import Run, RunSet
from kd_bench.runner import RunReport, run_protocol
from kd_bench.verification.entry_protocol import pair_name, runs_of
from kd_bench.verification.findings import Findings, SeedResult, percent
from kd_bench.verification.recorded_method import with_recorded_method
from kd_bench.verification.tolerance import RetrainingTolerance, retraining_tolerance

_AUTO = LaunchOptions()


@dataclass(frozen=True)
class Retraining:
    """How an entry is trained again.

    Attributes:
        output: directory for what it leaves; started again with the same one, it goes on where it stopped.
        seeds: which of the entry's seeds; all of them if ``None``.
        run_submitted_code: whether the file of a method that does not come with lightning_kd may be executed.
        launch: where and with how many workers.
    """

    output: Path
    seeds: Sequence[int] | None = None
    run_submitted_code: bool = False
    launch: LaunchOptions = _AUTO


def verify_retrained(entry: Entry, protocol: Protocol, how: Retraining) -> Findings:
    """Train the students of an entry again, as it is recorded, and compare.

    The teacher is obtained as the protocol says, so one that is trained on the spot is trained here, too.

    Args:
        entry: with a folder.
        protocol: the entry's.
        how: where, which seeds, and whether submitted code may run.

    Raises:
        UserError: if it cannot be done; see :func:`kd_bench.verification.recorded_method.with_recorded_method`.
    """
    run_set = entry.run_set
    runs = runs_of(run_set, how.seeds)
    if unknown := sorted({run.seed for run in runs} - set(protocol.seeds)):
        raise UserError(
            f"{protocol.id} has no seed {unknown[0]}, so it cannot be trained again; choose others with --seeds: "
            f"{', '.join(map(str, sorted(set(run_set.seeds) & set(protocol.seeds))))}."
        )
    _check_output(entry, how.output)
    pair = pair_name(protocol, run_set)
    rerun = with_recorded_method(entry, protocol, pair, how.output, run_submitted=how.run_submitted_code)
    report = run_protocol(
        rerun.protocol,
        output=how.output,
        methods=[run_set.method.name],
        pairs=[pair],
        seeds=[run.seed for run in runs],
        launch=how.launch,
    )
    return _judge(run_set, runs, report, rerun.remarks)


def _check_output(entry: Entry, output: Path) -> None:
    """Make sure that the entry is not compared with itself: what is finished in an output is not trained again."""
    assert entry.folder is not None
    if entry.folder.resolve().is_relative_to(output.resolve()):
        raise UserError(
            f"the entry {entry.folder} lies in the output {output} itself, where it counts as finished and would not "
            "be trained again; choose another --output."
        )


def _judge(claimed: RunSet, runs: Sequence[Run], report: RunReport, remarks: Sequence[str]) -> Findings:
    again = {run.seed: run for found in report.run_sets for run in found.runs}
    results = tuple(
        SeedResult(run.seed, run.last.headline, again[run.seed].last.headline if run.seed in again else None)
        for run in runs
    )
    tolerance = retraining_tolerance(claimed.headlines(), len(runs))
    obstacles = tuple(f"{failure.item} could not be trained: {failure.message}" for failure in report.failures)
    findings = Findings(results, (), (), tolerance.seed, tolerance.mean, obstacles)
    if report.skipped:
        remarks = (*remarks, f"{report.skipped} of {len(runs)} seeds had been trained before, in the same output")
    pairs = [(run, again[run.seed]) for run in runs if run.seed in again]
    different = [each for found in report.run_sets for each in _different(claimed, found)]
    remarks = (*remarks, *_repeated(pairs), *different, *_differently(pairs))
    return replace(findings, problems=tuple(_beyond(findings, tolerance)), remarks=tuple(remarks))


def _beyond(findings: Findings, tolerance: RetrainingTolerance) -> Iterator[str]:
    for each in findings.seeds:
        if each.found is not None and abs(each.found - each.claimed) > tolerance.seed:
            yield (
                f"seed {each.seed}: trained again it has {percent(each.found)} %, claimed are {percent(each.claimed)} "
                f"%; the noise of the seeds explains {percent(tolerance.seed)} points at most"
            )
    mean = findings.mean_difference
    if mean is not None and abs(mean) > tolerance.mean:
        yield (
            f"trained again the mean is {percent(abs(mean))} points {'higher' if mean > 0 else 'lower'} than claimed; "
            f"the noise of the seeds explains {percent(tolerance.mean)} at most"
        )


def _repeated(pairs: Sequence[tuple[Run, Run]]) -> Iterator[str]:
    """Which seeds came out the same to the bit; where some do, others should."""
    same = [run.seed for run, again in pairs if run.predictions_sha256 == again.predictions_sha256]
    others = [run.seed for run, _ in pairs if run.seed not in same]
    if same and others:
        yield (
            f"the predictions of {_named(same)} are the same to the bit, those of {_named(others)} are not: look at "
            "these, unless they were made on another machine"
        )
    elif same:
        yield f"the predictions of {_named(same)} are the same to the bit"


def _named(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _different(claimed: RunSet, found: RunSet) -> Iterator[str]:
    """What was not as it was when the entry was made."""
    if claimed.teacher.weights_sha256 != found.teacher.weights_sha256:
        yield (
            f"the teacher here is another one than the entry's (weights {found.teacher.weights_sha256[:12]}…, not "
            f"{claimed.teacher.weights_sha256[:12]}…): it has {percent(found.teacher.headline)} %, the entry's "
            f"{percent(claimed.teacher.headline)} %"
        )
    here, there = describe_environment(), claimed.environment
    for name in ("torch", "lightning", "lightning_kd", "cpu"):
        one, other = getattr(here, name), getattr(there, name)
        if one != other:
            yield f"{name} here: {one}; of the entry: {other}"


def _differently(pairs: Sequence[tuple[Run, Run]]) -> Iterator[str]:
    """How the machine was used otherwise."""
    for name in ("device", "trainer"):
        values = ((getattr(run, name), getattr(again, name)) for run, again in pairs)
        if (first := next((pair for pair in values if pair[0] != pair[1]), None)) is not None:
            yield f"{name} here: {first[1]}; of the entry: {first[0]}"
