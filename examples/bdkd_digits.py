"""BD-KD against classical distillation and mutual learning on handwritten digits, with calibration.

* plain: the student alone;
* KD: a teacher is trained first, then frozen;
* DML: teacher and student train together, each with a forward divergence from the other;
* BD-KD: the same, but the student weighs forward and reverse divergence by who is less certain.

Run it with ``python examples/bdkd_digits.py``; it takes less than a minute on one CPU core. One seed of a small problem:
the table shows how to compare, not which method is the best.
"""

from __future__ import annotations

from functools import partial

import lightning as L
import torch
from kd_bench.data.digits import Digits
from kd_bench.models import create_model
from lightning.pytorch.utilities import disable_possible_user_warnings
from rich.console import Console
from rich.table import Table
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from lightning_kd import Classification, Distillation, DistillationMethod, DistillationModule
from lightning_kd.methods import BDKD, DML, KD

EPOCHS = 20


def digits() -> Digits:
    """The bundled digits, shifted, turned and scaled at random while training."""
    return Digits(
        batch_size=64,
        seed=0,
        split_seed=0,
        validation_fraction=0.2,
        test_fraction=0.3,
        shift=1.5,
        rotation=25.0,
        scale=0.2,
        noise=0.2,
    )


def network(name: str) -> nn.Module:
    """A network with fresh weights, the same ones every time."""
    torch.manual_seed(0)
    return create_model(name, num_classes=10, in_channels=1)


def fit(module: L.LightningModule, epochs: int) -> None:
    """Train; everything random follows from the seed."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, digits().train_dataloader())


def task(epochs: int) -> Classification:
    """Cross-entropy, SGD and a cosine schedule."""
    return Classification(
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
    )


class Plain(L.LightningModule):
    """Training without distillation."""

    def __init__(self, model: nn.Module, epochs: int) -> None:
        super().__init__()
        self.model = model
        self.epochs = epochs

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)]


@torch.no_grad()
def evaluate(network: nn.Module) -> tuple[float, float, float]:
    """Accuracy (%), negative log-likelihood and expected calibration error (%, 15 bins) on the test split."""
    network.eval()
    images, labels = next(iter(digits().test_dataloader()))
    logits = network(images)
    accuracy = multiclass_accuracy(logits, labels, 10, average="micro")
    error = multiclass_calibration_error(logits.softmax(-1), labels, 10, n_bins=15)
    return 100 * accuracy.item(), nn.functional.cross_entropy(logits, labels).item(), 100 * error.item()
