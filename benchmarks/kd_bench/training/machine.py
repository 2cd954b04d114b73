"""How a training uses the machine: from a protocol's ``trainer`` section to Lightning's arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy

from kd_bench.errors import UserError
from kd_bench.protocol import MethodRow, TrainerSpec
from kd_bench.rows import create_method
from lightning_kd import DistillationMethod

ONE_DEVICE = TrainerSpec()
FSDP = "fsdp"
_SYNC_ON_CPU = "sync_batchnorm works on GPUs only, and this training is not on one; leave it out"
_ABOUT_SHARDING = ("shard", "FSDP", "DTensor")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", FSDP)


def trainer_arguments(machine: TrainerSpec, accelerator: str) -> dict[str, Any]:
    """What the Trainer is told about the machine.

    Args:
        machine: how it is used; with several devices, this process is one of as many.
        accelerator: the protocol's, where ``machine`` names none.
    """
    # not what surrounds this process: a cluster's scheduler knows the benchmark's processes, not their devices
    environment: ClusterEnvironment = LightningEnvironment() if machine.devices == 1 else TorchElasticEnvironment()
    return {
        "accelerator": machine.accelerator or accelerator,
        "devices": machine.devices,
        "strategy": _strategy(machine),
        "sync_batchnorm": machine.sync_batchnorm,
        "plugins": [environment],
    }


def check_machine(machine: TrainerSpec, accelerator: str, batch_size: int, row: MethodRow) -> None:
    """Find out early whether a row can be trained like that, wherever it is going to be trained.

    Args:
        machine: how the machine is used.
        accelerator: the protocol's, where ``machine`` names none.
        batch_size: the recipe's.
        row: the method.

    Raises:
        UserError: if it cannot.
    """
    devices, strategy = machine.devices, machine.strategy
    if strategy not in STRATEGIES:
        raise UserError(f"unknown strategy {strategy!r}; the benchmark can use {', '.join(STRATEGIES)}")
    if devices == 1 and strategy != "auto":
        raise UserError(f"the strategy {strategy!r} is for several devices, but devices is 1; set devices, too")
    if batch_size % devices:
        raise UserError(
            f"the recipe's batches of {batch_size} samples cannot be divided equally among {devices} devices; use "
            f"{_nearest_divisors(batch_size, devices)} devices"
        )
    if machine.sync_batchnorm and (machine.accelerator or accelerator) == "cpu":
        raise UserError(_SYNC_ON_CPU)
    if strategy == FSDP:
        _check_sharding(row)


def check_hardware(machine: TrainerSpec, accelerator: str) -> None:
    """Find out, where the training is about to begin, whether the hardware is there.

    Args:
        machine: how it is used.
        accelerator: the protocol's, where ``machine`` names none.

    Raises:
        UserError: if it is not.
    """
    wanted = machine.accelerator or accelerator
    gpus = torch.cuda.device_count()
    if wanted == "gpu" and not (gpus or torch.backends.mps.is_available()):
        raise UserError("the accelerator 'gpu' was asked for, but there is none here; use 'cpu', or 'auto'")
    if machine.sync_batchnorm and not gpus:
        raise UserError(_SYNC_ON_CPU)
    if wanted != "cpu" and gpus and machine.devices > gpus:
        raise UserError(
            f"{machine.devices} devices were asked for, but there are {gpus} GPUs here; use so many, or the "
            "accelerator 'cpu'"
        )


@contextmanager
def explained_sharding(machine: TrainerSpec) -> Iterator[None]:
    """Say what to do about a method that turns out not to work with a sharded student, such as one that copies it.

    Args:
        machine: how the machine is used.

    Raises:
        UserError: in place of an error of PyTorch or the method that is about sharding.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        if machine.strategy != FSDP or not any(word in str(error) for word in _ABOUT_SHARDING):
            raise
        first, *_ = str(error).splitlines()
        raise UserError(f"this method does not work with the strategy {FSDP!r} ({first}); use 'ddp'") from error


def _strategy(machine: TrainerSpec) -> Any:
    if machine.devices == 1:
        return "auto"
    if machine.strategy == FSDP:
        # the second version, which also runs on CPUs
        return ModelParallelStrategy(machine.devices, tensor_parallel_size=1, save_distributed_checkpoint=False)
    return "ddp" if machine.strategy == "auto" else machine.strategy


def _check_sharding(row: MethodRow) -> None:
    """Refuse what evaluates a part of its own with the student, or trains networks that are not sharded with it."""
    method = create_method(row)
    if method is None:
        return
    name = row.class_path
    if type(method).deploy is not DistillationMethod.deploy:
        reason = f"{name} evaluates the student together with a part of its own"
    elif method.trains_teacher:
        reason = f"{name} trains its teacher along, and only the student is sharded"
    else:
        return
    raise UserError(f"{reason}, which the strategy {FSDP!r} cannot do; use 'ddp'")


def _nearest_divisors(number: int, wanted: int) -> str:
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    below = max(each for each in divisors if each < wanted)
    above = [each for each in divisors if each > wanted][:1]
    return " or ".join(map(str, [below, *above]))
