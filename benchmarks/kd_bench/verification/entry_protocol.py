"""The protocol, pair and runs of an entry, for those who measure it again."""

from __future__ import annotations

from collections.abc import Sequence

from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, load_protocol
from kd_bench.results import Run, RunSet


def protocol_of(run_set: RunSet) -> Protocol:
    """The protocol that results were made under.

    Args:
        run_set: the results.

    Raises:
        UserError: if it is unknown here, or has changed.
    """
    protocol = load_protocol(run_set.protocol.id)
    if protocol.hash != run_set.protocol.hash:
        raise UserError(
            f"the entry was made under another recipe of {protocol.id} (hash {run_set.protocol.hash[:12]}…) than the "
            f"one that comes with this kd_bench (hash {protocol.hash[:12]}…), so it cannot be verified here; it says "
            f"that it was made with lightning_kd {run_set.method.package_version}."
        )
    return protocol


def pair_name(protocol: Protocol, run_set: RunSet) -> str:
    """What a protocol calls the pair of results.

    Args:
        protocol: the protocol.
        run_set: the results.

    Raises:
        UserError: if it has no such pair.
    """
    wanted = run_set.student.name, run_set.teacher.name
    for name, pair in protocol.pairs.items():
        if (pair.student, pair.teacher) == wanted:
            return name
    raise UserError(f"{protocol.id} has no pair of the student {wanted[0]} and the teacher {wanted[1]}.")


def runs_of(run_set: RunSet, seeds: Sequence[int] | None) -> list[Run]:
    """The runs of some seeds, ascending.

    Args:
        run_set: the results.
        seeds: which; all of them if ``None``.

    Raises:
        UserError: if there is no run of one, or none is chosen.
    """
    if seeds is not None and not seeds:
        raise UserError("no seed is chosen; leave the seeds out for all of them.")
    if unknown := sorted(set(seeds or ()) - set(run_set.seeds)):
        raise UserError(
            f"the entry has no run of the seed {unknown[0]}; its seeds are {', '.join(map(str, run_set.seeds))}."
        )
    return [run for run in run_set.runs if seeds is None or run.seed in seeds]
