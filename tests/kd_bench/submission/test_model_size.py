"""Sizes of the networks of all protocols."""

from __future__ import annotations

import pytest
from hostile.valid import COMMITTED
from kd_bench.protocol import Protocol, list_protocols
from kd_bench.results import PLAIN
from kd_bench.run_set_files import load_run_sets
from kd_bench.submission.model_size import model_size


@pytest.mark.parametrize("protocol", list_protocols(), ids=lambda protocol: protocol.id)
def test_the_size_of_every_classifier_is_known_without_its_data(protocol: Protocol) -> None:
    for pair in protocol.pairs.values():
        sizes = model_size(protocol.id, pair.student), model_size(protocol.id, pair.teacher)
        if protocol.task == "detection":
            assert sizes == (None, None)
        elif "timm:" not in f"{pair.student} {pair.teacher}":
            assert all(size is not None and size > 1000 for size in sizes)


def test_it_is_that_of_the_committed_results() -> None:
    compared = 0
    for run_set in load_run_sets(COMMITTED):
        if run_set.method.name == PLAIN and run_set.task == "classification":
            assert model_size(run_set.protocol.id, run_set.student.name) == run_set.student.parameters
            assert model_size(run_set.protocol.id, run_set.teacher.name) == run_set.teacher.parameters
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", ["nothing", "mini_cnn8", "timm:hf-hub:somebody/model", "torchvision:resnet18"])
def test_a_model_of_no_pair_is_not_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_bench.submission.model_size.create_model", lambda *_, **__: pytest.fail("it was built"))
    assert model_size("digits-v1", name) is None
