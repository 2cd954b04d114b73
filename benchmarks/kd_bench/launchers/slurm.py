"""Jobs of a SLURM cluster, by submitit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from kd_bench.errors import UserError
from kd_bench.items import Item
from kd_bench.launchers.attempt import Failed, Outcome
from kd_bench.launchers.events import Failure, Listener
from kd_bench.launchers.local import default_workers
from kd_bench.launchers.relay import Relay
from kd_bench.launchers.slurm_jobs import find_jobs, remember
from kd_bench.launchers.slurm_parameters import cluster_name, submitit_parameters
from kd_bench.launchers.slurm_task import SlurmTask
from kd_bench.launchers.threads import environment, thread_environment
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol
from kd_bench.state import judge, mark_ended, now, read_state
from kd_bench.storage import write_atomic

FOLDER = "slurm"
"""Where submitit keeps its files, below the output directory, which all nodes must see."""

ARRAY = 1000
"""Jobs in an array; SLURM refuses more than its ``MaxArraySize``, which is 1001 unless somebody has changed it."""

FORCED_SECONDS = 60.0
"""So often the scheduler is asked about a job that gives no sign of life; submitit itself asks every ten minutes."""

TAIL_LINES = 40


def create(options: LaunchOptions, protocol: Protocol) -> SlurmLauncher:
    """The launcher for these options."""
    return SlurmLauncher(options, protocol)


class SlurmLauncher:
    """Does items as jobs, in arrays. A job that is preempted or runs out of time is queued again by itself.

    Jobs outlive the process that submitted them, unless it is ended by Ctrl-C, which cancels them; started again, the
    benchmark waits for those that are left.

    Args:
        options: number of items at a time, threads, and parameters of the jobs.
        protocol: what is run.
    """

    def __init__(self, options: LaunchOptions, protocol: Protocol) -> None:
        self._options = options
        self._cluster = cluster_name(options.slurm)
        self._parameters = submitit_parameters(options, protocol)

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        """Do all items; see :class:`kd_bench.launchers.base.Launcher`."""
        folder = items[0].output.absolute() / FOLDER
        executor = self._executor(folder)
        is_slurm = executor.cluster == "slurm"
        memory = folder / "jobs.json"
        left = find_jobs(memory, folder, items) if is_slurm else {}
        if left:
            listener.note(f"waiting for {len(left)} jobs of an earlier start that are still queued or running")
        waiting = deque(item for item in items if item.key not in left)
        jobs = _Jobs(Relay(waiting, listener))
        jobs.running = [(item, left[item.key]) for item in items if item.key in left]
        # submitit starts processes of this machine at once, however many there are
        limit = len(items) if is_slurm else self._options.workers or default_workers()
        try:
            while waiting or jobs.running:
                room = min(len(waiting), limit - len(jobs.running), ARRAY)
                if room > 0:
                    batch = [waiting.popleft() for _ in range(room)]
                    submitted = self._submit(executor, batch)
                    jobs.running += zip(batch, submitted, strict=True)
                    if is_slurm:
                        remember(memory, batch, submitted)
                        listener.note(f"submitted {len(batch)} jobs, from {submitted[0].job_id} on")
                if jobs.look():
                    waiting.clear()
                    jobs.cancel(begun=False)
                if jobs.running:
                    time.sleep(max(1.0, len(jobs.running) / 200))
        except KeyboardInterrupt:
            listener.note(f"cancelling {len(jobs.running)} jobs")
            jobs.cancel(begun=True)
            raise
        return jobs.failures

    def _executor(self, folder: Path) -> submitit.AutoExecutor:
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self._cluster)
            if self._cluster is None and executor.cluster != "slurm":
                raise UserError(
                    "this machine has no SLURM: there is no command srun. Start the benchmark where jobs can be "
                    "submitted, or use the launcher local"
                )
            executor.update_parameters(**self._parameters)
        # what submitit raises for an unknown cluster, a missing scheduler and wrong parameters
        except (ValueError, NameError, RuntimeError, AssertionError, TypeError) as error:
            raise UserError(f"submitit does not accept the parameters of --slurm: {error}") from error
        return executor

    def _submit(self, executor: submitit.AutoExecutor, items: Sequence[Item]) -> list[Any]:
        tasks = [
            SlurmTask(replace(item, output=item.output.absolute()), item.fingerprint, self._options.threads)
            for item in items
        ]
        try:
            # the scheduler hands the environment on to the jobs
            with environment(thread_environment(self._options.threads)):
                return list(executor.submit_array(tasks))
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"the scheduler refused the jobs: {error}") from error


class _Jobs:
    """The jobs that are queued or running."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._asked: dict[str, float] = {}
        self.running: list[tuple[Item, Any]] = []
        self.failures: list[Failure] = []

    def look(self) -> bool:
        """See what has happened; whether nothing else can succeed."""
        fatal = False
        for item, job in list(self.running):
            if not job.done(force_check=self._is_silent(item, job)):
                continue
            self.running.remove((item, job))
            failure = self._relay.conclude(item, _outcome(item, job))
            if failure is not None:
                self.failures.append(failure)
                fatal |= failure.fatal
        self._relay.poll(item for item, _ in self.running)
        return fatal

    def cancel(self, *, begun: bool) -> None:
        """Cancel jobs.

        Args:
            begun: also those that have begun.
        """
        for item, job in list(self.running):
            if begun or item.key not in self._relay.started:
                job.cancel(check=False)
                self.running.remove((item, job))
                mark_ended(item.state, "interrupted")

    def _is_silent(self, item: Item, job: Any) -> bool:
        """Whether to ask the scheduler, because whoever did the item seems to be gone."""
        state = read_state(item.state)
        moment = time.monotonic()
        if state is None or judge(state, now()) != "interrupted":
            return False
        if moment - self._asked.get(job.job_id, float("-inf")) < FORCED_SECONDS:
            return False
        self._asked[job.job_id] = moment
        return True


def _outcome(item: Item, job: Any) -> Outcome:
    try:
        outcome: Outcome = job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        tail = (job.stderr() or str(error)).strip().splitlines()[-TAIL_LINES:]
        before = item.log.read_bytes() if item.log.exists() else b""
        write_atomic(item.log, before + "\n".join(["", f"job {job.job_id}:", *tail, ""]).encode())
        return Failed(f"its job {job.job_id} ended without a result ({job.state}): {tail[-1] if tail else ''}")
    return outcome
