"""The student and the teacher as an ordinary LightningModule that knows nothing of distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

from kd_bench.errors import UserError
from kd_bench.recipe import Recipe
from kd_bench.training.learner import TEST, VALIDATION, Learner


class Classifier(Learner):
    """Cross-entropy training of ``network`` under ``recipe``.

    Args:
        network: images → logits.
        recipe: optimizer, schedule and label smoothing.
        num_classes: width of the logits.
        image_shape: ``(channels, height, width)``.
        deploy: from ``network`` to what is evaluated in its place.
        splits: what the dataloaders for validation hold, in their order.
        channels_last: whether images and convolutions are laid out channels last.
    """

    score = "accuracy"

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        num_classes: int,
        image_shape: tuple[int, int, int],
        deploy: Callable[[nn.Module], nn.Module] | None = None,
        *,
        splits: Sequence[str] = ("validation", "test"),
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.recipe = recipe
        self.splits = tuple(splits)
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format
        self._deploy = deploy
        # lets methods size their connectors without touching the training data
        self.example_input_array = torch.zeros(2, *image_shape)
        self.validation_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        images = images.to(memory_format=self.memory_format)
        return F.cross_entropy(self.network(images), labels, label_smoothing=self.recipe.label_smoothing)

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        name, metric = (
            (VALIDATION + self.score, self.validation_accuracy)
            if self.splits[dataloader_idx] == "validation"
            else (TEST + self.score, self.test_accuracy)
        )
        # made for each batch, since as an attribute it would be trained and saved; its parts are in eval mode already
        network = self.network if self._deploy is None else self._deploy(self.network)
        metric.update(network(images.to(memory_format=self.memory_format)), labels)
        self.log(name, metric, on_epoch=True, add_dataloader_idx=False)

    @override
    def exact(self, score: Tensor, size: int) -> float:
        """An accuracy is a count over the size of the split."""
        return round(float(score) * size) / size


class ShardedClassifier(Classifier):
    """A classifier whose network is sharded over all processes (FSDP2)."""

    @override
    def configure_model(self) -> None:
        mesh = self.device_mesh
        assert mesh is not None
        if not any(isinstance(parameter, DTensor) for parameter in self.network.parameters()):
            fully_shard(self.network, mesh=mesh["data_parallel"])

    @override
    def on_train_start(self) -> None:
        """Make sure that all processes run the network equally often: each forward pass needs all of them."""
        batches: list[Any] = [None] * self.trainer.world_size
        dist.all_gather_object(batches, list(self.trainer.num_val_batches))
        if any(each != batches[0] for each in batches):
            raise UserError(
                f"the {len(batches)} devices would evaluate different numbers of batches, {batches}, which a sharded "
                "network cannot; use another number of devices, or the strategy 'ddp'"
            )
