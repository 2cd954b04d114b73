"""Run a protocol: what is finished is kept, what is missing is done, and the results are gathered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_bench import variants
from kd_bench.collect import collect, refuse_foreign
from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.launchers.events import Failure
from kd_bench.launchers.local import LocalLauncher, default_workers
from kd_bench.names import choose
from kd_bench.progress import progress_display
from kd_bench.protocol import ALL, Protocol, load_protocol
from kd_bench.results import RunSet, slug


@dataclass(frozen=True)
class RunReport:
    """Outcome of :func:`run_benchmark`.

    Attributes:
        protocol: what was run.
        results: directory with the protocol's results, for :func:`kd_bench.results.load_run_sets`.
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
    workers: int | None = None,
    quick: bool = False,
) -> RunReport:
    """Run a protocol, or the selected part of it.

    Started again after an interruption of any kind it goes on where it stopped and ends in the same numbers. Workers
    are spawned processes, so a script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        protocol_id: for example ``digits-v1``.
        output: directory for results, logs and teachers; made if missing.
        methods: row names; ``["all"]`` for all, by default the protocol's core.
        pairs: pair names; by default all.
        seeds: some of the protocol's seeds; by default all.
        workers: number of processes; by default two.
        quick: run the shortened variant; it has its own id and hash, so its results never mix with the real ones.

    Raises:
        UserError: for an unknown name or seed, or an output directory that holds something else; nothing has been
            run or written then.
        KeyboardInterrupt: on Ctrl-C; what was finished is kept.
    """
    start = time.perf_counter()
    protocol = load_protocol(protocol_id)
    if quick:
        protocol = variants.quick(protocol)
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}")
    items = plan(protocol, Path(output), methods=methods, pairs=pairs, seeds=seeds)
    refuse_foreign(items)
    pending = [item for item in items if item.load() is None]
    failures: list[Failure] = []
    if pending:
        launcher = LocalLauncher(min(workers or default_workers(), len(pending)))
        with progress_display(protocol.id, total=len(items), skipped=len(items) - len(pending)) as display:
            failures = launcher.run(pending, display)
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
) -> list[Item]:
    """The work items of a selection: pair by pair, method by method, seed by seed.

    Args:
        protocol: the recipe.
        output: the benchmark's output directory.
        methods: row names; ``["all"]`` for all, by default the protocol's core.
        pairs: pair names; by default all.
        seeds: some of the protocol's seeds; by default all.

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
        Item(protocol, pair, method, seed, output)
        for pair in chosen_pairs
        for method in chosen_methods
        for seed in chosen_seeds
    ]
    for item in items[:: len(chosen_seeds)]:
        item.check()
    return items
