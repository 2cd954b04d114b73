"""Train one network under a recipe, as lightly as the Trainer allows."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from torch import nn

from kd_bench.data.base import ClassificationData
from kd_bench.memory import PeakMemory
from kd_bench.recipe import Recipe
from kd_bench.training.classifier import Classifier
from kd_bench.training.recorder import OnEpoch, Recorder


@dataclass(frozen=True)
class Fitted:
    """Outcome of :func:`fit`; the network was trained in place.

    Attributes:
        recorder: the epochs.
        seconds: wall time, evaluation after every epoch included.
        peak_memory_mb: peak memory in MiB, or ``None`` where it cannot be measured.
        device: what it ran on.
    """

    recorder: Recorder
    seconds: float
    peak_memory_mb: float | None
    device: str


def fit(
    network: nn.Module,
    recipe: Recipe,
    data: ClassificationData,
    *,
    accelerator: str,
    callbacks: Sequence[L.Callback] = (),
    deploy: Callable[[nn.Module], nn.Module] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Fitted:
    """Train ``network`` in place.

    Args:
        network: images → logits; its weights are already drawn.
        recipe: how to train it.
        data: training batches, and what is evaluated after every epoch.
        accelerator: Lightning's accelerator flag.
        callbacks: further callbacks, such as the distillation.
        deploy: from ``network`` to what is evaluated after every epoch in its place.
        on_epoch: called after every epoch.
    """
    recorder = Recorder(on_epoch)
    _silence()
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        deterministic=True,
        callbacks=[*callbacks, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    module = Classifier(network, recipe, data.num_classes, data.image_shape, deploy)
    device = trainer.strategy.root_device
    with PeakMemory(device) as memory:
        start = time.perf_counter()
        trainer.fit(module, datamodule=data)
        seconds = time.perf_counter() - start
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Fitted(recorder, seconds, memory.mb, name)


def _silence() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # batches come from memory, worker processes would only add their start-up
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    # Lightning's own use of a function that PyTorch is retiring
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
