"""Run a protocol: what is finished is kept, what is missing is done, and the results are gathered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from kd_bench import variants
from kd_bench.collect import collect, refuse_foreign
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.launchers.choose import create_launcher
from kd_bench.launchers.events import Failure
from kd_bench.launchers.retry import run_with_retries
from kd_bench.method_copy import run_from_copies
from kd_bench.names import choose
from kd_bench.options import LaunchOptions, RunOptions
from kd_bench.own_methods import add_own_methods
from kd_bench.progress import progress_display
from kd_bench.protocol import ALL, Protocol, TrainerSpec, load_protocol
from kd_bench.results import ProtocolRef, RunSet, slug
from kd_bench.selection import PairNames, Selection, write_selection
from kd_bench.storage import DiskFullError, sweep
from kd_bench.training.loggers import check_loggers

AGAIN = "the same command goes on from there"


class BenchmarkInterrupt(KeyboardInterrupt):
    """Ctrl-C, with a message that says what is finished and how to go on."""


@dataclass(frozen=True)
class RunReport:
    """Outcome of :func:`run_benchmark`.

    Attributes:
        protocol: what was run.
        results: directory with the protocol's results, for :func:`kd_bench.run_set_files.load_run_sets`.
        run_sets: run sets of the selected methods and pairs; seeds that failed are missing.
        done: items done now.
        skipped: items that were finished before.
        failures: items that could not be done.
        seconds: wall time.
    """

    protocol: Protocol
    results: Path
    run_sets: tuple[RunSet, ...]
    done: int
    skipped: int
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, or 1 if an item failed."""
        return 1 if self.failures else 0


def run_benchmark(
    protocol_id: str,
    *,
    output: Path | str,
    methods: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    quick: bool = False,
    miniature: bool = False,
    tune: bool = False,
    method_parameters: Mapping[str, object] | None = None,
    task_weight: float | None = None,
    trainer: Mapping[str, object] | None = None,
    options: RunOptions | None = None,
    launch: LaunchOptions | None = None,
) -> RunReport:
    """Run a protocol, or the selected part of it.

    Args:
        protocol_id: for example ``digits-v1``.
        output: see :func:`run_protocol`.
        methods: see :func:`run_protocol`; besides row names also files with a method of one's own, ``my_method.py`` or
            ``my_method.py:ClassName``.
        pairs: see :func:`run_protocol`.
        seeds: see :func:`run_protocol`.
        quick: run the shortened variant; it has its own id and hash, so its results never mix with the real ones.
        miniature: run on a handful of samples, likewise.
        tune: score on a part of the training set, likewise.
        method_parameters: constructor arguments of the methods from files.
        task_weight: factor of the student's own loss beside them.
        trainer: how runs use the machine, where that differs from the protocol's; see
            :class:`kd_bench.protocol.TrainerSpec`.
        options: see :func:`run_protocol`.
        launch: see :func:`run_protocol`.

    Raises:
        UserError: see :func:`run_protocol`; also if a file is no method, or is to be given what no file gets.
    """
    protocol = load_protocol(protocol_id)
    if tune:
        protocol = variants.tuning(protocol)
    if quick:
        protocol = variants.quick(protocol)
    if miniature:
        protocol = variants.miniature(protocol, Path(output) / "miniature")
    if trainer:
        protocol = protocol.model_copy(update={"trainer": _use_machine(protocol.trainer, trainer)})
    protocol, methods = add_own_methods(protocol, methods, method_parameters, task_weight)
    return run_protocol(
        protocol, output=output, methods=methods, pairs=pairs, seeds=seeds, options=options, launch=launch
    )


def run_protocol(
    protocol: Protocol,
    *,
    output: Path | str,
    methods: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    options: RunOptions | None = None,
    launch: LaunchOptions | None = None,
) -> RunReport:
    """Run a protocol that is at hand as an object, or the selected part of it.

    Started again after an interruption of any kind it goes on where it stopped and ends in the same numbers. Workers
    are spawned processes, so a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        protocol: what to run.
        output: directory for results, logs and teachers; made if missing.
        methods: row names; ``["all"]`` for all, by default the protocol's core.
        pairs: pair names; by default all.
        seeds: some of the protocol's seeds; by default all.
        options: how an item is done.
        launch: where items are done; by default in two processes here, or in one a GPU.

    Raises:
        UserError: for an unknown name or seed, or an output directory that holds something else or cannot be written
            to; nothing has been run or written then. Also if the disk is full; what was finished is kept.
        BenchmarkInterrupt: on Ctrl-C; what was finished is kept.
    """
    start = time.perf_counter()
    options, launch = options or RunOptions(), launch or LaunchOptions()
    check_loggers(options.loggers)
    launcher = create_launcher(launch, protocol)
    items = plan(protocol, Path(output), methods=methods, pairs=pairs, seeds=seeds, options=options)
    refuse_foreign(items)
    write_selection(Path(output), _describe(items))
    copies = run_from_copies(protocol, Path(output), dict.fromkeys(item.method_name for item in items))
    items = [replace(item, protocol=copies) for item in items]
    sweep(Path(output))
    pending = [item for item in items if item.load() is None]
    failures: list[Failure] = []
    if pending:
        try:
            with progress_display(protocol.id, total=len(items), skipped=len(items) - len(pending)) as display:
                failures = run_with_retries(launcher, pending, launch.retries, display)
        except KeyboardInterrupt:
            raise BenchmarkInterrupt(f"interrupted; {_count(items)}, {AGAIN}") from None
    for failure in failures:
        if failure.fatal:
            raise DiskFullError(f"{failure.message} ({_count(items)})")
    return RunReport(
        protocol=protocol,
        results=Path(output) / "results" / slug(protocol.id),
        run_sets=tuple(collect(items)),
        done=len(pending) - len(failures),
        skipped=len(items) - len(pending),
        failures=tuple(failures),
        seconds=time.perf_counter() - start,
    )


def plan(
    protocol: Protocol,
    output: Path,
    *,
    methods: Sequence[str] | None = None,
    pairs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    options: RunOptions | None = None,
) -> list[Item]:
    """The work items of a selection, as far as methods run on pairs: pair by pair, method by method, seed by seed.

    Args:
        protocol: the recipe.
        output: the benchmark's output directory.
        methods: row names; ``["all"]`` for all, by default the protocol's core.
        pairs: pair names; by default all.
        seeds: some of the protocol's seeds; by default all.
        options: how an item is done.

    Raises:
        UserError: for an unknown name or seed, or a method whose class or parameters are wrong.
    """
    chosen_pairs = choose("pair", pairs, list(protocol.pairs))
    if methods is None:
        methods = protocol.core or None
    elif ALL in methods:
        methods = None
    chosen_methods = choose("method", methods, list(protocol.methods))
    chosen_seeds = choose("seed", seeds, list(protocol.seeds))
    if output.exists() and not output.is_dir():
        raise UserError(f"the output {output} is a file; expected a directory, or a path where one can be made")
    items = [
        Item(protocol, pair, method, seed, output, options or RunOptions())
        for pair in chosen_pairs
        for method in chosen_methods
        if protocol.methods[method].runs_on(pair)
        for seed in chosen_seeds
    ]
    if not items:
        rows = ", ".join(f"{method} (only {', '.join(protocol.methods[method].only_on)})" for method in chosen_methods)
        raise UserError(f"nothing to run on the pairs {', '.join(chosen_pairs)}: {rows}")
    for item in items[:: len(chosen_seeds)]:
        item.check()
    return items


def _use_machine(usual: TrainerSpec, changes: Mapping[str, object]) -> TrainerSpec:
    try:
        return TrainerSpec.model_validate({**usual.model_dump(), **changes})
    except ValidationError as error:
        problems = "; ".join(f"trainer.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UserError(f"runs cannot use the machine like that: {problems}") from error


def _describe(items: Sequence[Item]) -> Selection:
    protocol = items[0].protocol
    return Selection(
        protocol=ProtocolRef(id=protocol.id, hash=protocol.hash),
        pairs={item.pair_name: PairNames(student=item.pair.student, teacher=item.pair.teacher) for item in items},
        methods=tuple(dict.fromkeys(item.method_name for item in items)),
        only_on={item.method_name: item.row.only_on for item in items if item.row.only_on},
        seeds=tuple(dict.fromkeys(item.seed for item in items)),
    )


def _count(items: Sequence[Item]) -> str:
    finished = sum(item.load() is not None for item in items)
    return f"{finished} of {len(items)} runs are finished"
