from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kd_bench.errors import UserError
from kd_bench.heartbeat import Heartbeat
from kd_bench.items import Item
from kd_bench.protocol import Protocol
from kd_bench.results import ProtocolRef
from kd_bench.runner import plan
from kd_bench.selection import PairNames, Selection, read_selections, write_selection
from kd_bench.state import STALE, ItemState, now, write_state
from kd_bench.status import ProtocolStatus, read_status
from kd_bench.storage import write_atomic
from kd_bench.worker import run_item
from tiny_benchmark import state_of

from lightning_kd.cli.main import main


def _ask(items: Sequence[Item]) -> None:
    first = items[0]
    selection = Selection(
        protocol=ProtocolRef(id=first.protocol.id, hash=first.protocol.hash),
        pairs={first.pair_name: PairNames(student=first.pair.student, teacher=first.pair.teacher)},
        methods=tuple(dict.fromkeys(item.method_name for item in items)),
        seeds=tuple(dict.fromkeys(item.seed for item in items)),
    )
    write_selection(first.output, selection)


@pytest.fixture
def items(tiny: Protocol, tmp_path: Path) -> list[Item]:
    found = plan(tiny, tmp_path / "output", methods=["plain", "KD"])
    _ask(found)
    return found


def _statuses(status: ProtocolStatus) -> dict[str, str]:
    return {f"{item.method} {item.seed}": item.status for item in status.items}


def test_every_item_that_was_asked_for_is_waiting_until_somebody_begins_it(items: list[Item]) -> None:
    (status,) = read_status(items[0].output)
    assert _statuses(status) == dict.fromkeys(["plain 0", "plain 1", "KD 0", "KD 1"], "waiting")
    with Heartbeat(items[0]) as heart:
        heart.advance(1, 4)
        (status,) = read_status(items[0].output)
        assert _statuses(status)["plain 0"] == "running"
        assert status.remaining is not None
        heart.end("failed", "RuntimeError: no luck", "Traceback ...")
    (status,) = read_status(items[0].output)
    assert _statuses(status)["plain 0"] == "failed"
    state = state_of(items[0])
    assert (state.message, state.traceback, state.epoch) == ("RuntimeError: no luck", "Traceback ...", 1)


def test_a_finished_item_is_done(items: list[Item]) -> None:
    run_item(items[0])
    (status,) = read_status(items[0].output)
    assert _statuses(status) == {"plain 0": "done", "plain 1": "waiting", "KD 0": "waiting", "KD 1": "waiting"}


def test_an_attempt_that_is_left_by_an_exception_was_interrupted(items: list[Item]) -> None:
    with pytest.raises(KeyboardInterrupt), Heartbeat(items[0]):
        raise KeyboardInterrupt
    assert _statuses(read_status(items[0].output)[0])["plain 0"] == "interrupted"
    with Heartbeat(items[0]):
        assert state_of(items[0]).attempt == 2


def test_a_process_that_is_gone_does_not_run(items: list[Item]) -> None:
    with Heartbeat(items[0]):
        running = state_of(items[0])
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    write_state(items[0].state, running.model_copy(update={"pid": child}))
    assert _statuses(read_status(items[0].output)[0])["plain 0"] == "interrupted"


def test_without_a_heartbeat_from_another_machine_nobody_is_at_work(items: list[Item]) -> None:
    with Heartbeat(items[0]):
        running = state_of(items[0])
    elsewhere = running.model_copy(update={"host": "another", "identity": "another/1/2"})
    write_state(items[0].state, elsewhere)
    at = now()
    assert _statuses(read_status(items[0].output, at)[0])["plain 0"] == "running"
    later = elsewhere.updated + STALE + timedelta(seconds=1)
    assert _statuses(read_status(items[0].output, later)[0])["plain 0"] == "interrupted"


def test_corrupt_files_are_left_out(items: list[Item]) -> None:
    with Heartbeat(items[0]):
        pass
    items[0].state.write_text("{")
    assert _statuses(read_status(items[0].output)[0])["plain 0"] == "waiting"
    for plan_file in (items[0].output / "plan").iterdir():
        plan_file.write_text("[]")
    assert read_selections(items[0].output) == []


def test_a_place_without_a_benchmark_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no benchmark was started in"):
        read_status(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        read_status(tmp_path / "nowhere")


def test_the_command_shows_who_is_at_work_and_what_went_wrong(
    items: list[Item], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with Heartbeat(items[2]) as heart:
        heart.end("failed", "RuntimeError: no luck")
    with Heartbeat(items[0]) as heart:
        heart.advance(1, 2)
        assert main(["bench", "status", str(items[0].output)]) == 0
    shown = capsys.readouterr().out
    assert "digits-tiny: 0 of 4 runs finished, 1 running, 1 failed, 2 waiting" in shown
    assert "1 of 2" in shown
    assert "failed: KD, seed 0: RuntimeError: no luck (attempt 1 on " in shown
    assert f"log: {items[2].log}" in shown
    assert max(len(line) for line in shown.splitlines() if "│" in line) <= 100


def test_the_command_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "status", str(tmp_path)]) == 2
    assert "no benchmark was started in" in capsys.readouterr().err


def _only(items: Sequence[Item], at: datetime | None = None) -> ProtocolStatus:
    (status,) = read_status(items[0].output, at)
    return status


def _begin(item: Item, **changes: Any) -> ItemState:
    """Write a state as somebody on another machine would."""
    with Heartbeat(item) as heartbeat:
        heartbeat.end("done")
    state = heartbeat.state.model_copy(update={"identity": None, "host": "elsewhere", "status": "running", **changes})
    write_state(item.state, state)
    return state


def _finish(item: Item, **changes: Any) -> ItemState:
    write_atomic(item.result, f'{{"fingerprint": "{item.fingerprint}"}}'.encode())
    return _begin(item, status="done", **changes)


def test_the_result_has_the_last_word(items: list[Item]) -> None:
    _finish(items[0])
    items[0].result.unlink()
    write_atomic(items[1].result, f'{{"fingerprint": "{items[1].fingerprint}"}}'.encode())  # before there were states
    _finish(items[2])
    _begin(items[2], status="interrupted")  # after the result was written
    _finish(items[3])
    _begin(items[3], status="failed", fingerprint="0" * 64)  # the method has changed since
    assert _statuses(_only(items)) == {"plain 0": "waiting", "plain 1": "done", "KD 0": "done", "KD 1": "failed"}


def test_what_others_have_begun_is_shown_besides_what_was_asked_for_last(items: list[Item]) -> None:
    _begin(items[3])
    _ask(items[:2])
    assert _statuses(_only(items)) == {"plain 0": "waiting", "plain 1": "waiting", "KD 1": "running"}


def test_the_time_left_counts_those_at_work(items: list[Item]) -> None:
    moment = now()
    assert _only(items).remaining is None
    begun = {"started": moment - timedelta(seconds=50), "advanced": moment, "updated": moment, "epoch": 5, "epochs": 10}
    _begin(items[1], **begun)
    assert _only(items, moment).remaining == timedelta(seconds=50 + 3 * 100)  # 10 seconds an epoch
    _finish(items[0], started=moment - timedelta(seconds=80), updated=moment)
    assert _only(items, moment).remaining == timedelta(seconds=40 + 2 * 80)  # as long as the finished one
    _begin(items[2], **begun)
    assert _only(items, moment).remaining == timedelta(seconds=(40 + 40 + 80) / 2)
    later = moment + timedelta(seconds=30)
    assert _only(items, later).remaining == timedelta(seconds=(10 + 10 + 80) / 2)


def test_an_output_that_cannot_be_written_to_is_refused(tiny: Protocol, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("a file in the way")
    with pytest.raises(UserError, match=r"cannot write to the output .*Give a directory that you may write to"):
        _ask(plan(tiny, tmp_path))
