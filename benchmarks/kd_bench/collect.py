"""Gather finished items into run sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kd_bench.errors import UserError
from kd_bench.items import Item, ItemResult
from kd_bench.method_copy import copy_beside_results
from kd_bench.results import MethodInfo, RunSet
from kd_bench.run_set_files import read_run_set
from kd_bench.storage import write_model


def collect(items: Iterable[Item]) -> list[RunSet]:
    """Write the run set of every method and pair among ``items``, from all seeds of the protocol that are finished.

    Args:
        items: at least one of each method and pair; their seeds do not matter.

    Returns:
        The run sets, in the order of the items.
    """
    groups = {(item.method_name, item.pair_name): item for item in items}
    run_sets = []
    for any_item in groups.values():
        seeds = [replace(any_item, seed=seed) for seed in any_item.protocol.seeds]
        results = [result for item in seeds if (result := item.measured()) is not None]
        if results:
            copy_beside_results(any_item)
            run_sets.append(_store(any_item.run_set, _gather(any_item, results)))
    return run_sets


def refuse_foreign(items: Iterable[Item]) -> None:
    """Make sure that no result of another recipe would be overwritten.

    Raises:
        UserError: if a run set was made under another hash of the same protocol, or is corrupt.
    """
    for path, item in {item.run_set: item for item in items}.items():
        if not path.exists():
            continue
        found = read_run_set(path).protocol
        if found.hash != item.protocol.hash:
            raise UserError(
                f"{path} was made under another recipe of {found.id!r} (hash {found.hash[:12]}, now "
                f"{item.protocol.hash[:12]}); their numbers must not be mixed. Choose another output directory, or "
                "move the old results away."
            )


def _store(path: Path, run_set: RunSet) -> RunSet:
    """Write a run set, unless the very same is there already, perhaps with a better verification."""
    if path.exists():
        kept = read_run_set(path)
        if kept.model_copy(update={"verification": run_set.verification}) == run_set:
            return kept
    write_model(path, run_set)
    return run_set


def _gather(item: Item, results: Sequence[ItemResult]) -> RunSet:
    latest = results[-1]
    return RunSet(
        protocol=latest.protocol,
        method=_common_method(results),
        teacher=latest.teacher,
        student=latest.student,
        track=item.protocol.track,
        environment=latest.environment,
        runs=tuple(result.run for result in results),
    )


def _common_method(results: Sequence[ItemResult]) -> MethodInfo:
    """One description for all seeds; equal fingerprints leave only the state of the checkout to differ."""
    latest = results[-1].method
    if any(result.method.git_revision != latest.git_revision for result in results):
        # no single revision made all runs
        return latest.model_copy(update={"git_dirty": True})
    return latest
