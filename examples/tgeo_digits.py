"""TGeo-KD against fixed fusion ratios on handwritten digits, a fifth of whose training labels are wrong.

Each sample's loss is ``alpha * KD + (1 - alpha) * CE``. A fixed ratio trusts the teacher everywhere alike; TGeo-KD
learns from held-out training samples where to trust it. The table shows the accuracy of the student and the mean ratio
of the last epoch, where the teacher agrees with the (possibly wrong) label and where it does not.

Run it with ``python examples/tgeo_digits.py``; it takes about a minute on one CPU core. Three seeds, a small problem:
the table shows how to compare, not which ratio is the best.
"""

from __future__ import annotations

import logging

import lightning as L
import torch
import torch.nn.functional as F
from kd_bench.models import create_model
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd import Distillation
from lightning_kd.callbacks.fusion import FusionRatio, FusionStrategy, TrilateralGeometry
from lightning_kd.methods import KD

EPOCHS = 15
SEEDS = (0, 1, 2)
WRONG_LABELS = 0.2


class Classifier(L.LightningModule):
    """An ordinary LightningModule that knows nothing of distillation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model = create_model(name, num_classes=10, in_channels=1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


def splits() -> tuple[TensorDataset, TensorDataset]:
    """1,198 digits to train on, a fifth of them with the label of another class, and 599 to test on, as they are."""
    bundle = load_digits()
    images = torch.from_numpy(bundle.images).float()[:, None] / 8 - 1
    labels = torch.from_numpy(bundle.target).long()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(labels), generator=generator)
    train, test = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
    wrong = torch.rand(len(train), generator=generator) < WRONG_LABELS
    shift = torch.randint(1, 10, (len(train),), generator=generator)
    noisy = torch.where(wrong, (labels[train] + shift) % 10, labels[train])
    return TensorDataset(images[train], noisy), TensorDataset(images[test], labels[test])


def train(name: str, seed: int, epochs: int, *callbacks: L.Callback) -> tuple[nn.Module, dict[str, float]]:
    """Train a network and return it with what was logged; everything random follows from the seed."""
    L.seed_everything(seed, verbose=False)
    classifier = Classifier(name)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(classifier, DataLoader(splits()[0], batch_size=64, shuffle=True, drop_last=True))
    return classifier.model, {key: value.item() for key, value in trainer.callback_metrics.items()}


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Accuracy on the test split, in percent."""
    images, labels = splits()[1].tensors
    return 100 * (network.eval()(images).argmax(1) == labels).float().mean().item()


def main(epochs: int = EPOCHS, seeds: tuple[int, ...] = SEEDS) -> dict[str, dict[str, float]]:
    """Train the student with each ratio and print a table.

    Returns:
        Name of the ratio → means over the seeds.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    teacher, _ = train("mini_resnet14", 0, epochs)
    ratios: dict[str, float | FusionStrategy] = {
        "alpha = 0.1": 0.1,
        "alpha = 0.5": 0.5,
        "alpha = 0.9": 0.9,
        "TGeo-KD": TrilateralGeometry(),
    }
    scores: dict[str, dict[str, float]] = {}
    for name, strategy in ratios.items():
        runs = []
        for seed in seeds:
            student, logged = train(
                "mini_cnn4", seed, epochs, Distillation(teacher, KD(temperature=4)), FusionRatio(strategy)
            )
            kept = {key: logged[f"kd/alpha/{key}"] for key in ("teacher_right", "teacher_wrong")}
            runs.append({"accuracy": accuracy(student), **kept})
        scores[name] = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}

    table = Table("ratio", "accuracy (%)", "alpha, teacher = label", "alpha, teacher ≠ label")
    for name, score in scores.items():
        table.add_row(
            name, f"{score['accuracy']:.1f}", f"{score['teacher_right']:.2f}", f"{score['teacher_wrong']:.2f}"
        )
    console = Console()
    console.print(table)
    console.print(f"Teacher: {accuracy(teacher):.1f} %; means of {len(seeds)} seeds after {epochs} epochs")
    return scores


if __name__ == "__main__":
    main()
