"""Distillation in an ordinary LightningCLI: the callback is configured in YAML like any other.

Nothing here knows of distillation but the YAML file. Run it with
``python examples/lightning_cli.py fit --config examples/lightning_cli.yaml``; it takes about ten seconds on one CPU
core. Change the method or its weight on the command line, or take the callback out to train the student alone.
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy


class Network(nn.Sequential):
    """Two layers."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


class DigitsModule(L.LightningModule):
    """A classifier as one writes it without any thought of distillation."""

    def __init__(self, width: int = 8, lr: float = 0.01) -> None:
        super().__init__()
        self.network, self.lr = Network(width), lr
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.accuracy(self.network(images), labels)
        self.log("val/acc", self.accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Digits(L.LightningDataModule):
    """scikit-learn's handwritten digits, a hundred of them to learn from."""

    def __init__(self, batch_size: int = 20) -> None:
        super().__init__()
        self.batch_size = batch_size
        images, labels = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        self.train, self.val = random_split(data, [100, len(data) - 100], torch.Generator().manual_seed(0))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=1024)


def trained_teacher(width: int) -> nn.Module:
    """A teacher. Yours would be loaded from a file; this one is small enough to be trained here."""
    network, (images, labels) = Network(width), next(iter(Digits(batch_size=100).train_dataloader()))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network


if __name__ == "__main__":
    # load_from_checkpoint_support hands the student's hyper-parameters to every LightningModule that the file makes, a
    # LightningModule as teacher included, so switch it off where the teacher is one
    LightningCLI(DigitsModule, Digits, load_from_checkpoint_support=False)
