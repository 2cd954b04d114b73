from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kd_bench.items import Item
from kd_bench.launchers.events import Failure, Listener
from kd_bench.launchers.retry import run_with_retries
from kd_bench.protocol import Protocol
from kd_bench.runner import plan


class Flaky:
    """A launcher whose items fail for so many times; the others are done."""

    def __init__(self, failing: dict[str, int], **how: bool) -> None:
        self.failing, self.how = failing, how
        self.begun: Counter[str] = Counter()

    def run(self, items: Sequence[Item], listener: Listener) -> list[Failure]:
        failures = []
        for item in items:
            self.begun[str(item)] += 1
            listener.started(item)
            if self.begun[str(item)] <= self.failing.get(str(item), 0):
                failures.append(Failure(item, "RuntimeError: no luck", item.log, **self.how))
                listener.failed(failures[-1])
            else:
                listener.finished(item, 0.5, 1.0)
        return failures


class Heard:
    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, item: Item) -> None:
        pass

    def advanced(self, item: Item, epoch: int, epochs: int) -> None:
        pass

    def finished(self, item: Item, score: float, seconds: float) -> None:
        self.events.append(f"finished {item}")

    def failed(self, failure: Failure) -> None:
        self.events.append(f"failed {failure.item} after {failure.attempts}")

    def postponed(self, failure: Failure) -> None:
        self.events.append(f"postponed {failure.item}")

    def note(self, text: str) -> None:
        pass


def _items(tiny: Protocol, output: Path) -> list[Item]:
    return plan(tiny, output, methods=["plain", "KD"], seeds=[0])


def test_what_fails_is_tried_again_after_the_rest(tiny: Protocol, tmp_path: Path) -> None:
    heard = Heard()
    failures = run_with_retries(Flaky({"plain, seed 0": 2}), _items(tiny, tmp_path), 2, heard)
    assert failures == []
    assert heard.events == [
        "postponed plain, seed 0",
        "finished KD, seed 0",
        "postponed plain, seed 0",
        "finished plain, seed 0",
    ]


def test_the_last_attempt_counts(tiny: Protocol, tmp_path: Path) -> None:
    heard = Heard()
    (failure,) = run_with_retries(Flaky({"KD, seed 0": 9}), _items(tiny, tmp_path), 1, heard)
    assert (failure.item.method_name, failure.attempts) == ("KD", 2)
    assert heard.events == ["finished plain, seed 0", "postponed KD, seed 0", "failed KD, seed 0 after 2"]


def test_what_would_fail_in_the_same_way_is_not_tried_again(tiny: Protocol, tmp_path: Path) -> None:
    launcher = Flaky({"KD, seed 0": 9}, retryable=False)
    (failure,) = run_with_retries(launcher, _items(tiny, tmp_path), 5, Heard())
    assert failure.attempts == launcher.begun["KD, seed 0"] == 1


def test_after_a_fatal_failure_nothing_is_tried(tiny: Protocol, tmp_path: Path) -> None:
    launcher = Flaky({"plain, seed 0": 9, "KD, seed 0": 9}, fatal=True)
    failures = run_with_retries(launcher, _items(tiny, tmp_path), 5, Heard())
    assert len(failures) == 2
    assert set(launcher.begun.values()) == {1}
