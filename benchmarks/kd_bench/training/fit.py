"""Train one network under a recipe, as lightly as the Trainer allows."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import torch
from torch import nn

from kd_bench.data.base import BenchmarkData
from kd_bench.protocol import TrainerSpec
from kd_bench.recipe import Recipe
from kd_bench.tasks.registry import task_named
from kd_bench.training.checkpoints import Checkpoint, CheckpointFile, UnusableCheckpointError
from kd_bench.training.effort import Effort
from kd_bench.training.machine import FSDP, ONE_DEVICE, explained_sharding, trainer_arguments
from kd_bench.training.recorder import LogEpoch, OnEpoch, Recorder
from kd_bench.training.resume import Resume
from kd_bench.training.synchronize import gather, same_buffers


@dataclass(frozen=True)
class Fitted:
    """Outcome of :func:`fit`.

    Attributes:
        network: the trained network: the one that was given, or a copy of it with the same layers if it was sharded.
        recorder: the epochs.
        seconds: wall time, evaluation after every epoch included; of all parts, if it was interrupted.
        peak_memory_mb: peak memory of this process in MiB, or ``None`` where it cannot be measured.
        device: what it ran on.
    """

    network: nn.Module
    recorder: Recorder
    seconds: float
    peak_memory_mb: float | None
    device: str


def fit(
    network: nn.Module,
    recipe: Recipe,
    data: BenchmarkData,
    *,
    accelerator: str,
    machine: TrainerSpec = ONE_DEVICE,
    callbacks: Sequence[L.Callback] = (),
    deploy: Callable[[nn.Module], nn.Module] | None = None,
    on_epoch: OnEpoch | None = None,
    log: LogEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train ``network``, from the beginning or from where an interrupted training has left a checkpoint.

    Args:
        network: what is trained; its weights are already drawn. It is trained in place.
        recipe: how to train it.
        data: training batches, and what is evaluated after every epoch.
        accelerator: Lightning's accelerator flag, where ``machine`` has none.
        machine: how the machine is used; with several devices, all of as many processes call this.
        callbacks: further callbacks, such as the distillation.
        deploy: from ``network`` to what is evaluated after every epoch in its place.
        on_epoch: called after every epoch.
        log: called with the numbers of every epoch.
        checkpoint: where the training leaves its state.

    Raises:
        UserError: if the method does not work with this use of the machine.
        DivergedError: if the training loss stops being finite.
        UnusableCheckpointError: if there is a checkpoint, but it does not fit; nothing can be said of ``network`` then.
    """
    _silence()
    whole = network
    if machine.strategy == FSDP:
        # the optimizer's state and the connectors would have to be put together from all ranks
        checkpoint = None
        whole = copy.deepcopy(network)
    module = task_named(data.task).learner(network, recipe, data, machine, deploy)
    if machine.compile:
        torch.compiler.reset()  # what earlier trainings have compiled counts against a limit
        network.compile()
    loaded = None if checkpoint is None else checkpoint.load()
    arguments = trainer_arguments(machine, accelerator)
    arguments["plugins"].append(CheckpointFile(loaded))
    recorder = Recorder(on_epoch, log)
    trainer = L.Trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        gradient_clip_val=recipe.clip,
        deterministic=True,
        callbacks=[*callbacks, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **arguments,
    )
    device = trainer.strategy.root_device
    with explained_sharding(machine), Effort(device) as effort:
        if checkpoint is None:
            trainer.fit(module, datamodule=data)
        else:
            _fit_resumed(trainer, module, data, checkpoint, effort, resumed=loaded is not None)
    network.to(device)  # Lightning takes it away from the device
    if machine.devices > 1:
        same_buffers(network)
    if whole is not network:
        whole.load_state_dict(gather(network))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Fitted(whole.to(device), recorder, effort.seconds, effort.peak_memory_mb, name)


def _fit_resumed(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: BenchmarkData,
    checkpoint: Checkpoint,
    effort: Effort,
    *,
    resumed: bool,
) -> None:
    resume = Resume(checkpoint, effort, restoring=resumed)
    callbacks: list[L.Callback] = cast(Any, trainer).callbacks
    callbacks.insert(0, resume)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint.path) if resumed else None)
    except Exception as error:
        if resume.restoring:
            raise UnusableCheckpointError(f"{checkpoint.path} cannot be restored ({error})") from error
        raise


def _silence() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # batches come from memory, worker processes would only add their start-up
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    # Lightning's own use of a function that PyTorch is retiring
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
