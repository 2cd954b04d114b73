"""One attempt at an item: its outcome, its log, its state."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from kd_bench.items import Item
from kd_bench.launchers import attempt as attempt_module
from kd_bench.launchers.attempt import Done, Failed
from kd_bench.process_identity import process_identity
from kd_bench.protocol import Protocol
from kd_bench.runner import plan
from kd_bench.state import ItemState
from plain_streams import attempt
from tiny_benchmark import state_of


def test_a_done_item_says_so(item: Item) -> None:
    told: list[tuple[int, int]] = []
    published: list[ItemState] = []
    outcome = attempt(item, on_epoch=lambda *epoch: told.append(epoch), publish=published.append)
    result = item.load()
    assert result is not None
    assert outcome == Done(result.run.last.accuracy, result.run.seconds)
    assert told == [(1, 2), (2, 2)]
    state = state_of(item)
    assert (state.status, state.attempt, state.epoch, state.epochs) == ("done", 1, 2, 2)
    assert (state.pid, state.identity) == (os.getpid(), process_identity(os.getpid()))
    assert (state.fingerprint, state.log) == (item.fingerprint, item.log.relative_to(item.output).as_posix())
    assert state.started < state.advanced <= state.updated
    assert published[0].status == "running"
    assert published[-1] == state


def test_a_failed_item_keeps_why_and_loses_no_log(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        print(f"{len(reasons)} left")
        os.write(1, b"from native code\n")
        raise reasons.pop()

    reasons: list[Exception] = [ValueError("second\nmore of it"), KeyError("first")]
    monkeypatch.setattr(attempt_module, "run_item", fail)
    assert attempt(item) == Failed("KeyError: 'first'")
    assert attempt(item) == Failed("ValueError: second")
    state = state_of(item)
    assert (state.status, state.attempt, state.message) == ("failed", 2, "ValueError: second")
    assert state.traceback is not None
    assert state.traceback.startswith("Traceback")
    assert state.traceback.endswith("more of it\n")
    log = item.log.read_text()
    assert log.count("Traceback") == log.count("from native code") == 2
    order = ["attempt 1 at plain, seed 0", "2 left", "KeyError: 'first'", "attempt 2 at", "1 left", "more of it"]
    assert sorted(order, key=log.index) == order


def test_mistakes_and_divergence_are_not_worth_another_attempt(tiny: Protocol, tmp_path: Path) -> None:
    steep = tiny.methods["KD"].model_copy(update={"parameters": {"weight": 1e38}})
    diverging = plan(tiny.model_copy(update={"methods": {"Steep": steep}}), tmp_path)[0]
    outcome = attempt(diverging)
    assert isinstance(outcome, Failed)
    assert outcome.message.startswith("DivergedError: the training loss was")
    assert not outcome.retryable
    (weights,) = tmp_path.rglob("weights.safetensors")
    weights.write_bytes(b"")
    outcome = attempt(plan(tiny, tmp_path, methods=["KD"])[0])
    assert isinstance(outcome, Failed)
    assert outcome.message.startswith(f"{weights} is not the file that teacher.json describes")
    assert not outcome.retryable


def test_an_interrupted_item_says_so(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*arguments: object) -> None:
        raise SystemExit(255)

    monkeypatch.setattr(attempt_module, "run_item", leave)
    with pytest.raises(SystemExit):
        attempt(item)
    assert state_of(item).status == "interrupted"


def test_what_somebody_else_has_finished_is_not_done_again(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    first = attempt(item)
    monkeypatch.setattr(attempt_module, "run_item", None)
    assert attempt(item) == first


def test_a_machine_with_other_versions_is_refused(item: Item) -> None:
    outcome = attempt(replace(item), expected="0" * 64)
    assert isinstance(outcome, Failed)
    assert "would compute other numbers than the machine where the benchmark was started" in outcome.message
    assert not outcome.retryable
    assert item.load() is None
    assert isinstance(attempt(item, expected=item.fingerprint), Done)


def test_what_is_to_be_prepared_may_fail(item: Item) -> None:
    def prepare() -> None:
        raise RuntimeError("there is no teacher")

    assert attempt(item, prepare=prepare) == Failed("RuntimeError: there is no teacher")
    assert "there is no teacher" in item.log.read_text()
