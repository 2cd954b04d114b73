"""Two equal networks learn handwritten digits, each alone and then as peers that teach one another.

Neither is a trained teacher: both start from scratch and learn from the labels and from each other (Deep Mutual
Learning). Run it with ``python examples/mutual_learning.py``; it takes about ten seconds on one CPU core. One seed of a
small problem: the table shows how to compare, not whether peers help here.
"""

from __future__ import annotations

import logging
from functools import partial

import lightning as L
import torch
from kd_bench.data.base import ClassificationData, open_data
from kd_bench.models import create_model
from kd_bench.protocol import load_protocol
from rich.console import Console
from rich.table import Table
from torch import nn

from lightning_kd import Classification, DistillationModule
from lightning_kd.methods import DML

EPOCHS = 30


def digits() -> ClassificationData:
    """The bundled digits as ``digits-v1`` uses them: shifted, turned and scaled at random while training."""
    protocol = load_protocol("digits-v1")
    return open_data(protocol.data, protocol.student_recipe, seed=0)


def network(seed: int) -> nn.Module:
    """A small convolutional network; the seed decides its weights."""
    torch.manual_seed(seed)
    return create_model("mini_cnn4", num_classes=10, in_channels=1)


def train(student: nn.Module, peer: nn.Module, *, epochs: int, alpha: float) -> None:
    """Train both in one run; with ``alpha=0`` they do not look at each other."""
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    task = Classification(
        num_classes=10, optimizer=optimizer, scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs)
    )
    module = DistillationModule(student, peer, method=DML(alpha=alpha), task=task)
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
    trainer.fit(module, digits().train_dataloader(), digits().eval_dataloader("validation"))


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Share of the test images that are classified correctly, in per cent."""
    network.eval()
    images, labels = next(iter(digits().test_dataloader()))
    return 100 * (network(images).argmax(-1) == labels).float().mean().item()


def main(epochs: int = EPOCHS) -> dict[str, list[float]]:
    """Train and print a table.

    Returns:
        Test accuracies of the two networks, ``"alone"`` and ``"together"``.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results: dict[str, list[float]] = {}
    for name, alpha in (("alone", 0.0), ("together", 1.0)):
        networks = [network(seed) for seed in (0, 1)]
        train(*networks, epochs=epochs, alpha=alpha)
        results[name] = [accuracy(trained) for trained in networks]
    table = Table("", "first network", "second network", title=f"Test accuracy after {epochs} epochs (%)")
    for name, values in results.items():
        table.add_row(name, *(f"{value:.1f}" for value in values))
    Console().print(table)
    return results


if __name__ == "__main__":
    main()
