"""States and heartbeats: what those who look on are told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from kd_bench import heartbeat as heartbeat_module
from kd_bench.heartbeat import Heartbeat
from kd_bench.items import Item
from kd_bench.process_identity import is_gone, process_identity
from kd_bench.state import STALE, ItemState, judge, mark_ended, now, read_state, write_state
from tiny_benchmark import state_of

linux = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux's /proc")


@linux
def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = process_identity(process.pid)
        assert identity is not None
        assert not is_gone(process.pid, identity)
        earlier = f"{identity.rpartition('/')[0]}/1"
        assert is_gone(process.pid, earlier)
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(process.pid, identity)  # it is still a zombie
    assert is_gone(process.pid, identity)


def test_nothing_is_known_about_processes_elsewhere() -> None:
    assert not is_gone(2**22 + 1, "another-machine/pid:[1]/4194305/1")
    assert not is_gone(2**22 + 1, None)


@linux
def test_a_running_state_is_not_believed_once_its_process_is_gone(item: Item) -> None:
    with Heartbeat(item) as heartbeat:
        state = heartbeat.state
        assert judge(state, now()) == "running"
        ended = f"{state.identity}0"
        assert judge(state.model_copy(update={"identity": ended}), now()) == "interrupted"


def test_a_state_from_elsewhere_is_believed_until_its_heartbeat_stops(item: Item) -> None:
    with Heartbeat(item) as heartbeat:
        state = heartbeat.state.model_copy(update={"identity": None})
    assert judge(state, state.updated + STALE - timedelta(seconds=1)) == "running"
    assert judge(state, state.updated + STALE + timedelta(seconds=1)) == "interrupted"
    done = state.model_copy(update={"status": "done"})
    assert judge(done, state.updated + 10 * STALE) == "done"


def test_a_heart_beats_though_no_epoch_ends(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "HEARTBEAT_SECONDS", 0.01)
    published: list[ItemState] = []
    several = threading.Event()

    def publish(state: ItemState) -> None:
        published.append(state)
        if len(published) > 3:
            several.set()
        raise ConnectionError("whoever looks on must not disturb the training")

    with Heartbeat(item, publish) as heartbeat:
        heartbeat.advance(3, 10)
        assert several.wait(30)
        heartbeat.end("done")
    assert all(state.status == "running" for state in published[:-1])
    assert [state.updated for state in published] == sorted(state.updated for state in published)
    assert published[-1] == state_of(item)
    assert (published[-1].status, published[-1].epoch, published[-1].epochs) == ("done", 3, 10)


def test_the_first_epoch_is_told_at_once(item: Item) -> None:
    with Heartbeat(item) as heartbeat:
        heartbeat.advance(1, 10)
        assert state_of(item).epoch == 1


def test_attempts_are_counted_over_all_starts(item: Item) -> None:
    for number in (1, 2, 3):
        with Heartbeat(item):
            assert state_of(item).attempt == number
        assert state_of(item).status == "interrupted"


@pytest.mark.parametrize("content", [b"", b"{", b'{"status": "running"}', b"\xff\xfe"])
def test_a_corrupt_state_is_as_good_as_none(content: bytes, item: Item) -> None:
    item.state.parent.mkdir(parents=True)
    item.state.write_bytes(content)
    assert read_state(item.state) is None
    mark_ended(item.state, "interrupted")
    assert item.state.read_bytes() == content
    with Heartbeat(item):
        assert state_of(item).attempt == 1


def test_a_state_that_cannot_be_written_disturbs_nobody(item: Item) -> None:
    with Heartbeat(item) as heartbeat:
        state = heartbeat.state
    item.state.unlink()
    item.state.mkdir()
    write_state(item.state, state)
    assert list(item.state.iterdir()) == []


def test_only_who_cannot_speak_any_more_is_spoken_for(item: Item) -> None:
    with Heartbeat(item):
        mark_ended(item.state, "failed", "killed")
        assert (state_of(item).status, state_of(item).message) == ("failed", "killed")
    with Heartbeat(item) as heartbeat:
        heartbeat.end("done")
    mark_ended(item.state, "failed", "killed")
    assert state_of(item).status == "done"
    mark_ended(item.state.with_name("none.json"), "failed", "killed")
    assert not item.state.with_name("none.json").exists()
