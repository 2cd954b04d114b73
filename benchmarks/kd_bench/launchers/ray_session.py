"""The items of a benchmark as tasks of the Ray cluster that this process is connected to."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, TaskCancelledError

from kd_bench.items import Item
from kd_bench.launchers.attempt import Failed
from kd_bench.launchers.events import Failure
from kd_bench.launchers.ray_board import Board
from kd_bench.launchers.ray_home import Home, unpack
from kd_bench.launchers.ray_tasks import Obtained, Parcel, do_item, obtain_teacher, pack_teacher
from kd_bench.launchers.relay import Relay
from kd_bench.method_copy import PackedMethod
from kd_bench.state import ItemState, read_state, write_state
from kd_bench.storage import DiskFullError, write_atomic

_ray: Any = ray  # typed for tasks whose arguments are known beforehand

CRASHES = 3
"""So often Ray starts a task again whose process or node was lost; the item goes on from its checkpoint."""

POLL_SECONDS = 0.5
BOARD_SECONDS = 5.0


class RaySession:
    """Submits the items, watches them, and brings home what came of them.

    Args:
        items: what to do.
        relay: told how far they are.
        threads: PyTorch threads of an item.
    """

    def __init__(self, items: Sequence[Item], relay: Relay, threads: int) -> None:
        self._items = {item.key: item for item in items}
        self._home = Home.of(items[0].output)
        self._relay, self._threads = relay, threads
        self._board: Any = None
        self._teachers: dict[str, Any] = {}
        self._running: dict[Any, Item] = {}

    @property
    def unfinished(self) -> list[Item]:
        """Items that were submitted and have not ended."""
        return list(self._running.values())

    def run(self, resources: Mapping[str, float], limit: int, *, is_own: bool) -> list[Failure]:
        """Do all items.

        Args:
            resources: what a task takes of the cluster.
            limit: number of tasks at a time.
            is_own: whether all tasks run on this machine, and see the same files.

        Returns:
            The items that could not be done.
        """
        remote = _ray.remote(max_retries=CRASHES, **resources)
        task = remote(do_item)
        if not is_own:
            self._board = _ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
            self._obtain_teachers(remote(obtain_teacher))
        waiting, failures = deque(self._items.values()), list[Failure]()
        try:
            while waiting or self._running:
                while waiting and len(self._running) < limit:
                    item = waiting.popleft()
                    self._running[self._submit(task, item)] = item
                ready, _ = ray.wait(list(self._running), timeout=POLL_SECONDS)
                for reference in ready:
                    failure = self._conclude(self._running.pop(reference), reference)
                    if failure is not None:
                        failures.append(failure)
                    if failure is not None and failure.fatal:
                        waiting.clear()
                        self._withdraw()
                self._watch()
        finally:
            for reference in self._running:
                with contextlib.suppress(RayError):
                    ray.cancel(reference, force=True)
        return failures

    def _obtain_teachers(self, task: Any) -> None:
        for item in self._items.values():
            name = item.pair.teacher
            if name in self._teachers:
                continue
            # one that is here already goes to all nodes as it is; another node might train a slightly different one
            known = pack_teacher(item)
            if known is None:
                self._teachers[name] = task.remote(self._there(item), self._home, self._threads)
            else:
                self._teachers[name] = ray.put(known)

    def _submit(self, task: Any, item: Item) -> Any:
        # a task begins when the teacher that it is given is there
        teacher = self._teachers.get(item.pair.teacher)
        home, method = self._home, PackedMethod.of(item)
        return task.remote(self._there(item), item.fingerprint, home, self._threads, teacher, self._board, method)

    def _there(self, item: Item) -> Item:
        """The item for processes with another working directory."""
        return replace(item, output=self._home.output)

    def _conclude(self, item: Item, reference: Any) -> Failure | None:
        try:
            parcel: Parcel = ray.get(reference)
        except TaskCancelledError:  # withdrawn
            return None
        except RayError as error:
            lines = str(error).strip().splitlines() or [""]
            return self._relay.conclude(item, Failed(f"{type(error).__name__}: {lines[0]}"))
        try:
            _bring_home(item, parcel)
            self._bring_home_teacher(item)
        except DiskFullError as error:
            return self._relay.conclude(item, Failed(str(error), fatal=True))
        return self._relay.conclude(item, parcel.outcome)

    def _bring_home_teacher(self, item: Item) -> None:
        """The item has ended, so its teacher is there."""
        if item.pair.teacher in self._teachers and pack_teacher(item) is None:
            obtained: Obtained = ray.get(self._teachers[item.pair.teacher])
            unpack(item.output, obtained.files)

    def _withdraw(self) -> None:
        """Take back what nobody has begun."""
        for reference, item in self._running.items():
            if item.key not in self._relay.started:
                ray.cancel(reference)

    def _watch(self) -> None:
        if self._board is None:
            self._relay.poll(self._running.values())
            return
        try:
            states: dict[Any, str] = ray.get(self._board.take.remote(), timeout=BOARD_SECONDS)
        except (RayError, GetTimeoutError):  # it is started again, and the next heartbeats come
            return
        running = {item.key for item in self._running.values()}
        for key in running & states.keys():
            state, item = ItemState.model_validate_json(states[key]), self._items[key]
            _keep(item, state)
            self._relay.heed(item, state)


def _bring_home(item: Item, parcel: Parcel) -> None:
    """Write what the task may have written on a machine of its own.

    Raises:
        DiskFullError: if there is no space left.
    """
    if parcel.log:
        before = item.log.read_bytes() if item.log.exists() else b""
        write_atomic(item.log, before + parcel.log)
    unpack(item.output, parcel.files)
    if parcel.state is not None:
        _keep(item, parcel.state)


def _keep(item: Item, state: ItemState) -> None:
    """Write a state unless there is a later one, so that others see it on this machine, too."""
    known = read_state(item.state)
    if known is None or known.updated < state.updated:
        write_state(item.state, state)
