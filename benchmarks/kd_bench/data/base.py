"""What a benchmark's data module offers beyond Lightning's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
from torch.utils.data import DataLoader

from kd_bench.errors import UserError
from kd_bench.names import import_object
from kd_bench.protocol import DataSpec
from kd_bench.recipe import Recipe


@dataclass(frozen=True)
class TrainingNeeds:
    """What a method needs of the training split that others do not.

    Attributes:
        indexed: training batches come with the positions of their samples, as :class:`~lightning_kd.data.Indexed`.
        held_out: share of the training split, stratified by class, that the student is not trained on.
    """

    indexed: bool = False
    held_out: float = 0.0


class ClassificationData(L.LightningDataModule, ABC):
    """Images with class labels in fixed training, validation and test splits; batches are ``(images, labels)``.

    Args:
        batch_size: samples in a training batch.
        seed: determines the order and the augmentation of the training data, together with the epoch. Nothing else
            may: not the global random state, and not who else has read from the loader.
        augmentation: settings of the augmentation of the training data; which there are is up to the subclass.

    Attributes:
        num_classes: number of classes.
        image_shape: ``(channels, height, width)``.
        has_parts: whether a parameter ``part`` chooses between ``"final"``, all of the training set and no validation
            split, and ``"tuning"``, a part of it, where test means the rest of it.
        needs: what is special about the training split; nothing, unless :func:`open_data` was asked for it.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    has_parts: ClassVar[bool] = False

    def __init__(self, batch_size: int, seed: int, augmentation: Mapping[str, Any]) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = dict(augmentation)
        self.needs = TrainingNeeds()

    @abstractmethod
    def checksum(self) -> str:
        """sha256 over the samples, the labels and the split."""

    @abstractmethod
    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented, as :attr:`needs` says."""

    @abstractmethod
    def held_out_dataloader(self) -> DataLoader[Any]:
        """The training samples that :meth:`train_dataloader` leaves out, one by one and not augmented."""

    @abstractmethod
    def eval_dataloader(self, split: str) -> DataLoader[Any]:
        """The split ``"validation"`` or ``"test"``, in fixed order, not augmented."""

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Validation and test split: both are evaluated after every epoch, neither steers the training."""
        return [self.eval_dataloader("validation"), self.eval_dataloader("test")]

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split."""
        return self.eval_dataloader("test")


def data_class(spec: DataSpec) -> type[ClassificationData]:
    """The class of a protocol's data.

    Raises:
        UserError: if there is no such class, or it cannot serve a classification protocol.
    """
    found = import_object(spec.class_path, "data class")
    if not (isinstance(found, type) and issubclass(found, ClassificationData)):
        raise UserError(f"{spec.class_path} is not a ClassificationData, so it cannot serve a classification protocol")
    return found


def open_data(spec: DataSpec, recipe: Recipe, seed: int, needs: TrainingNeeds | None = None) -> ClassificationData:
    """Create a protocol's data module and verify its checksum.

    Args:
        spec: class, parameters and checksum.
        recipe: batch size and augmentation.
        seed: determines order and augmentation of the training data.
        needs: what the method needs of the training split.

    Raises:
        UserError: if the class is unknown, does not take the parameters, or the data is not the protocol's.
    """
    cls = data_class(spec)
    parameters: dict[str, Any] = dict(spec.parameters)
    try:
        data = cls(recipe.batch_size, seed, recipe.augmentation, **parameters)
    except TypeError as error:
        raise UserError(
            f"{spec.class_path} does not take the protocol's data.parameters or augmentation: {error}"
        ) from error
    found = data.checksum()
    if found != spec.checksum:
        raise UserError(
            f"the data of {spec.class_path} or its split is not what the protocol was made for: expected the checksum "
            f"{spec.checksum[:12]}…, found {found[:12]}…. Results would not be comparable. Check the version of the "
            "package that brings the data (scikit-learn, numpy), or give an altered protocol an id of its own."
        )
    data.needs = needs or TrainingNeeds()
    return data
