"""The pass over the training data that some methods make before training (class means, principal components)."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L

from lightning_kd.data import Indexed
from lightning_kd.engine.dry_run import inputs_of, quiet, to_device
from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.engine.network import Network
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.target import find_target
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.base import DistillationMethod


def run_setup_pass(
    trainer: L.Trainer,
    module: L.LightningModule,
    network: Network,
    teachers: Sequence[Teacher],
    methods: Sequence[DistillationMethod],
    settings: Settings,
) -> None:
    """Show every training batch to ``methods``: teachers in eval mode, without gradients, random state untouched.

    Every rank sees the whole training set, so all end with the same buffers.
    """
    loader = trainer.fit_loop._data_source.dataloader()
    with quiet(network.module, *(teacher.module for teacher in teachers)):
        for raw in loader:
            batch = to_device(trainer, module, raw)
            sample = batch.sample if isinstance(batch, Indexed) else batch
            args, kwargs = inputs_of(module, network, sample)
            exchange = Exchange(
                inputs=args,
                kwargs=kwargs,
                target=find_target(sample, settings.target),
                student=View(None),
                teachers=[teacher.view(args, kwargs, settings.logits) for teacher in teachers],
                batch=sample,
            )
            for method in methods:
                method.observe(exchange)
        for method in methods:
            method.finish_setup()
