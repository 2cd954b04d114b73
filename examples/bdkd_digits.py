"""BD-KD against classical distillation and mutual learning on handwritten digits, with calibration.

* plain: the student alone;
* KD: a teacher is trained first, then frozen;
* DML: teacher and student train together, each with a forward divergence from the other;
* BD-KD: the same, but the student weighs forward and reverse divergence by who is less certain.

Run it with ``python examples/bdkd_digits.py``; it takes less than a minute on one CPU core. One seed, a small problem:
the table shows how to compare, not which method is the best.
"""

from __future__ import annotations

import logging

import lightning as L
import torch
import torch.nn.functional as F
from kd_bench.data.base import ClassificationData, open_data
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from lightning_kd import Distillation
from lightning_kd.methods import BDKD, DML, KD

EPOCHS = 15


class Classifier(L.LightningModule):
    """An ordinary LightningModule that knows nothing of distillation; the same weights every time."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = create_model(name, num_classes=10, in_channels=1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]


def digits() -> ClassificationData:
    """The bundled digits as ``digits-v1`` uses them: shifted, turned and scaled at random while training."""
    protocol = load_protocol("digits-v1")
    return open_data(protocol.data, protocol.student_recipe, seed=0)


def train(classifier: Classifier, epochs: int, *distillation: Distillation) -> nn.Module:
    """Train, distilling or not, and return the network; everything random follows from the seed."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(distillation),
    )
    trainer.fit(classifier, digits().train_dataloader())
    return classifier.model


@torch.no_grad()
def evaluate(network: nn.Module) -> dict[str, float]:
    """Accuracy (%), negative log-likelihood and expected calibration error (%, 15 bins) on the test split."""
    network.eval()
    images, labels = next(iter(digits().test_dataloader()))
    logits = network(images)
    return {
        "accuracy": 100 * multiclass_accuracy(logits, labels, 10, average="micro").item(),
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": 100 * multiclass_calibration_error(logits.softmax(-1), labels, 10, n_bins=15).item(),
    }


def main(epochs: int = EPOCHS) -> dict[str, dict[str, float]]:
    """Train the student in four ways and print a table.

    Returns:
        Name of the way → scores of the student.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    teacher = Classifier("mini_resnet14")
    train(teacher, epochs)
    ways: dict[str, list[Distillation]] = {
        "plain": [],
        "KD": [Distillation(teacher.model, KD(temperature=4, weight=0.9), task_weight=0.1)],
        "DML": [Distillation(Classifier("mini_resnet14").model, DML())],
        "BD-KD": [Distillation(Classifier("mini_resnet14").model, BDKD(delta=2))],
    }
    scores = {way: evaluate(train(Classifier("mini_cnn4"), epochs, *extra)) for way, extra in ways.items()}

    table = Table("student", "accuracy (%)", "NLL", "ECE (%)", title=f"Test split after {epochs} epochs")
    for way, score in scores.items():
        table.add_row(way, f"{score['accuracy']:.1f}", f"{score['nll']:.3f}", f"{score['ece']:.1f}")
    teachers = {"KD": teacher.model, **{way: ways[way][0].peers[0] for way in ("DML", "BD-KD")}}
    found = ", ".join(f"{way} {evaluate(network)['accuracy']:.1f} %" for way, network in teachers.items())
    console = Console()
    console.print(table)
    console.print(f"Their teachers: {found}")
    return scores


if __name__ == "__main__":
    main()
