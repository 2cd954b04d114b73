"""GPUs shared out among processes; this machine may have none, so PyTorch is told how many there are."""

from __future__ import annotations

import pytest
import torch
from kd_bench.launchers.devices import gpu_shares
from kd_bench.launchers.local import create, default_workers
from kd_bench.options import LaunchOptions
from kd_bench.protocol import Protocol, TrainerSpec


def _machine(protocol: Protocol, **trainer: object) -> Protocol:
    return protocol.model_copy(update={"accelerator": "auto", "trainer": TrainerSpec.model_validate(trainer)})


@pytest.fixture(autouse=True)
def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_every_process_gets_gpus_of_its_own(tiny: Protocol) -> None:
    assert gpu_shares(_machine(tiny)) == ["0", "1", "2", "3"]
    assert gpu_shares(_machine(tiny, devices=2)) == ["0,1", "2,3"]
    assert gpu_shares(_machine(tiny, devices=3)) == ["0,1,2"]
    assert gpu_shares(_machine(tiny, devices=8)) == []


def test_a_protocol_for_cpus_gets_none(tiny: Protocol) -> None:
    assert gpu_shares(tiny) == []
    assert gpu_shares(_machine(tiny, accelerator="cpu")) == []


def test_only_what_this_process_may_use_is_shared_out(tiny: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5a, GPU-7c")
    assert gpu_shares(_machine(tiny)) == ["GPU-5a", "GPU-7c"]


def test_there_is_a_process_a_gpu_unless_asked_otherwise(tiny: Protocol) -> None:
    def workers(protocol: Protocol, options: LaunchOptions) -> tuple[int, list[str]]:
        launcher = create(options, protocol)
        return launcher.workers, list(launcher.shares)

    assert workers(_machine(tiny), LaunchOptions()) == (4, ["0", "1", "2", "3"])
    assert workers(_machine(tiny, devices=2), LaunchOptions()) == (2, ["0,1", "2,3"])
    assert workers(_machine(tiny), LaunchOptions(workers=8)) == (8, ["0", "1", "2", "3"])
    assert workers(tiny, LaunchOptions()) == (default_workers(), [])
