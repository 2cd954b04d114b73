"""Keep the state of an item up to date while somebody works on it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kd_bench.items import Item
from kd_bench.process_identity import host_name, process_identity
from kd_bench.state import HEARTBEAT_SECONDS, ItemState, Status, now, read_state, write_state

Publish = Callable[[ItemState], None]
"""Where else a state goes besides the item's file."""

MAX_TRACEBACK = 20_000


class Heartbeat:
    """One attempt at an item: writes its state at the beginning, every few seconds, and at the end.

    An attempt that is left by an exception which is not reported with :meth:`end` has been interrupted.

    Args:
        item: what is done.
        publish: told the same, in the heartbeat's thread; what it raises is ignored.
    """

    def __init__(self, item: Item, publish: Publish | None = None) -> None:
        self._item, self._publish = item, publish
        previous = read_state(item.state)
        pid = os.getpid()
        moment = now()
        self._state = ItemState(
            protocol=item.protocol.id,
            pair=item.pair_name,
            method=item.method_name,
            seed=item.seed,
            fingerprint=item.fingerprint,
            status="running",
            attempt=1 if previous is None else previous.attempt + 1,
            host=host_name(),
            pid=pid,
            identity=process_identity(pid),
            started=moment,
            advanced=moment,
            updated=moment,
            log=item.log.relative_to(item.output).as_posix(),
        )
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def state(self) -> ItemState:
        """The latest state."""
        return self._state

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def advance(self, epoch: int, epochs: int) -> None:
        """Note that an epoch is done; it is told with the next heartbeat, as epochs may be very short."""
        is_first = not self._state.epochs
        self._update(epoch=epoch, epochs=epochs, advanced=now())
        if is_first:
            self._write()

    def end(self, status: Status, message: str | None = None, traceback: str | None = None) -> None:
        """Write how it ended.

        Args:
            status: ``done``, ``failed`` or ``interrupted``.
            message: why, in one line.
            traceback: where; only its end is kept if it is very long.
        """
        self._over.set()
        self._thread.join()
        kept = None if traceback is None else traceback[-MAX_TRACEBACK:]
        self._update(status=status, message=message, traceback=kept)
        self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._over.is_set():
            self.end("interrupted")

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            self._write()

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._state = self._state.model_copy(update=changes)

    def _write(self) -> None:
        with self._writing:  # what is written last is the latest
            self._update(updated=now())
            write_state(self._item.state, self._state)
            if self._publish is not None:
                with contextlib.suppress(Exception):
                    self._publish(self._state)
