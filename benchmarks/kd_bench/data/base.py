"""What a benchmark's data module offers beyond Lightning's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakSet

import lightning as L
from torch.utils.data import DataLoader

from kd_bench.data.batches import ShuffledDraws, check_divisible
from kd_bench.errors import UserError
from kd_bench.names import import_object
from kd_bench.protocol import DataSpec
from kd_bench.recipe import Recipe
from kd_bench.results import TaskName


class DividedDraws(Protocol):
    """A sampler whose batches are divided among ranks."""

    def set_ranks(self, rank: int, world: int) -> None:
        """Draw the same batches, of which this rank gets its part."""


Draws = TypeVar("Draws", bound=DividedDraws)


@dataclass(frozen=True)
class TrainingNeeds:
    """What a method needs of the training split that others do not.

    Attributes:
        indexed: training batches come with the positions of their samples, as :class:`~lightning_kd.data.Indexed`.
        held_out: share of the training split, stratified by class, that the student is not trained on.
    """

    indexed: bool = False
    held_out: float = 0.0


class BenchmarkData(L.LightningDataModule, ABC):
    """Samples in fixed splits.

    Args:
        batch_size: samples in a training batch.
        seed: determines the order and the augmentation of the training data, together with the epoch. Nothing else
            may: not the global random state, and not who else has read from the loader.

    Attributes:
        task: what networks do with it.
        has_parts: whether a parameter ``part`` chooses between ``"final"``, all of the training set and no validation
            split, and ``"tuning"``, a part of it, where test means the rest of it.
        soft_targets: whether the labels of training batches are probabilities ``(B, C)``, since images are mixed.
        keep_last: whether the last, incomplete batch of an epoch is trained on.
        needs: what is special about the training split; nothing, unless :func:`open_data` was asked for it.
        loader_workers: processes that make batches; ``None`` for what suits the data. The batches do not depend on it.
        rank: which of the processes that train together this is; see :meth:`set_ranks`.
        world: how many there are.
    """

    task: ClassVar[TaskName]
    has_parts: ClassVar[bool] = False
    soft_targets: bool = False

    def __init__(self, batch_size: int, seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.keep_last = False
        self.needs = TrainingNeeds()
        self.loader_workers: int | None = None
        self.rank, self.world = 0, 1
        self._draws: WeakSet[DividedDraws] = WeakSet()

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return True

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
        """The split ``"validation"`` or ``"test"``, in fixed order, not augmented; all of it, on every rank.

        Raises:
            UserError: if there is no validation split.
        """

    def splits(self) -> tuple[str, ...]:
        """What is evaluated after every epoch; none of it steers the training."""
        return ("validation", "test") if self.has_validation else ("test",)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """This rank's share of the :meth:`splits`; together the ranks have every sample once."""
        return [self._share(self.eval_dataloader(split)) for split in self.splits()]

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split, all of it on every rank."""
        return self.eval_dataloader("test")

    def set_ranks(self, rank: int, world: int) -> None:
        """Divide batches among processes that train together.

        Every rank gets an equal part of each training batch, so that all together train on the very batches that one
        process would. Training loaders that are there already divide from their next epoch on; other loaders have to
        be made afterwards.

        Args:
            rank: number of this process.
            world: number of processes.

        Raises:
            UserError: if a batch cannot be divided equally.
        """
        check_divisible(self.batch_size, world, "batch")
        self.rank, self.world = rank, world
        for draws in self._draws:
            draws.set_ranks(rank, world)

    def divided(self, draws: Draws) -> Draws:
        """Let the batches of a training loader be divided by :meth:`set_ranks`."""
        draws.set_ranks(self.rank, self.world)
        self._draws.add(draws)
        return draws

    def _share(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        if self.world > 1:
            draws: Any = loader.sampler
            draws.set_ranks(self.rank, self.world)
        return loader


class ClassificationData(BenchmarkData):
    """Images with class labels in fixed splits; batches are ``(images, labels)``.

    Args:
        batch_size: samples in a training batch.
        seed: see :class:`BenchmarkData`.
        augmentation: settings of the augmentation of the training data; which there are is up to the subclass.

    Attributes:
        num_classes: number of classes.
        image_shape: ``(channels, height, width)``.
    """

    task = "classification"
    num_classes: int
    image_shape: tuple[int, int, int]

    def __init__(self, batch_size: int, seed: int, augmentation: Mapping[str, Any]) -> None:
        super().__init__(batch_size, seed)
        self.augmentation = dict(augmentation)

    def shuffled_draws(self, size: int) -> ShuffledDraws:
        """The training batches of a split with ``size`` samples: what :meth:`train_dataloader` samples by."""
        return self.divided(ShuffledDraws(size, self.batch_size, self.seed, keep_last=self.keep_last))


def data_class(spec: DataSpec) -> type[BenchmarkData]:
    """The class of a protocol's data.

    Raises:
        UserError: if there is no such class, or it cannot serve a protocol.
    """
    found = import_object(spec.class_path, "data class")
    if not (isinstance(found, type) and issubclass(found, BenchmarkData)):
        raise UserError(
            f"{spec.class_path} is neither a ClassificationData nor a DetectionData, so it cannot serve a protocol"
        )
    return found


def open_data(spec: DataSpec, recipe: Recipe, seed: int, needs: TrainingNeeds | None = None) -> BenchmarkData:
    """Create a protocol's data module and verify its checksum.

    Args:
        spec: class, parameters and checksum.
        recipe: batch size, augmentation, and what becomes of the last batch.
        seed: determines order and augmentation of the training data.
        needs: what the method needs of the training split.

    Raises:
        UserError: if the class is unknown, does not take the parameters, or the data is not the protocol's.
    """
    cls = data_class(spec)
    make: Any = cls
    try:
        data: BenchmarkData = make(recipe.batch_size, seed, recipe.augmentation, **spec.parameters)
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
    data.keep_last = recipe.last_batch == "keep"
    data.needs = needs or TrainingNeeds()
    return data
