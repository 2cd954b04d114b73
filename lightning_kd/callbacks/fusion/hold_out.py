"""Hold some of the training samples out, to learn the fusion ratio on."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from lightning_kd.data import Replayed, WithIndex


def hold_out(
    dataset: Dataset[Any], fraction: float = 0.1, seed: int = 0, labels: Sequence[int] | Tensor | None = None
) -> tuple[Subset[Any], Subset[Any]]:
    """Split a training set in two: what the student is trained on, and what the fusion ratio is learnt on.

    The split is stratified by class where the labels are known: given, or found in ``dataset.targets``, ``.labels``,
    ``.y`` or the second tensor of a ``TensorDataset`` (also through ``Subset`` and
    :class:`~lightning_kd.data.WithIndex`). Every class keeps at least one sample to train on.

    Args:
        dataset: map-style training set.
        fraction: share of the samples that are held out.
        seed: seed of the split; the global random state is left alone.
        labels: class index of every sample, ``(N,)``.

    Returns:
        The samples to train on and those held out, in the order of the data set.

    Raises:
        TypeError: if the data set is not map-style.
        ValueError: if the fraction leaves one side empty, or the labels do not fit the data set.

    >>> train, held_out = hold_out(list(range(20)), fraction=0.1, labels=[0] * 10 + [1] * 10)
    >>> len(train), len(held_out)
    (18, 2)
    """
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(
            f"hold_out needs a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}; split "
            "a stream where it is made"
        )
    size = len(cast(Sized, dataset))
    known = labels_of(dataset) if labels is None else torch.as_tensor(labels)
    if known is not None and known.shape != (size,):
        raise ValueError(f"expected one label for each of the {size} samples, got shape {tuple(known.shape)}")
    count = round(fraction * size) if 0.0 < fraction < 1.0 else 0
    groups = [torch.arange(size)] if known is None else [torch.nonzero(known == c)[:, 0] for c in torch.unique(known)]
    generator = torch.Generator().manual_seed(seed)
    held_out = [
        group[torch.randperm(len(group), generator=generator)[:quota]]
        for group, quota in zip(groups, _quotas([len(group) for group in groups], count), strict=True)
    ]
    chosen = torch.zeros(size, dtype=torch.bool)
    if held_out:
        chosen[torch.cat(held_out)] = True
    if not chosen.any() or chosen.all():
        raise ValueError(f"cannot hold out fraction={fraction} of {size} samples and leave samples on both sides")
    return Subset(dataset, torch.nonzero(~chosen)[:, 0].tolist()), Subset(dataset, torch.nonzero(chosen)[:, 0].tolist())


def labels_of(dataset: Any) -> Tensor | None:
    """Class indices of the samples, ``(N,)``, where the data set carries them in a usual place; else ``None``."""
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices)]
    found = [getattr(dataset, name, None) for name in ("targets", "labels", "y")]
    tensors = getattr(dataset, "tensors", ())
    for candidate in [*found, *tensors[1:2]]:
        try:
            labels = torch.as_tensor(candidate)
        except (TypeError, ValueError, RuntimeError):
            continue
        if labels.shape == (len(dataset),) and not labels.is_floating_point():
            return labels.cpu()
    return None


def root_and_indices(dataset: Any) -> tuple[Any, list[int] | None]:
    """The data set behind any number of subsets, and which of its samples are used (``None``: all)."""
    if isinstance(dataset, WithIndex | Replayed):
        return root_and_indices(dataset.dataset)
    if not isinstance(dataset, Subset):
        return dataset, None
    root, indices = root_and_indices(dataset.dataset)
    own = [int(index) for index in dataset.indices]
    return root, own if indices is None else [indices[index] for index in own]


def share_samples(first: Any, second: Any) -> bool:
    """Whether two data sets are made of the same object and have a sample in common."""
    (first_root, first_indices), (second_root, second_indices) = root_and_indices(first), root_and_indices(second)
    if first_root is not second_root:
        return False
    if first_indices is None or second_indices is None:
        return True
    return not set(first_indices).isdisjoint(second_indices)


def _quotas(sizes: list[int], count: int) -> list[int]:
    """How many of each class to hold out: proportional, rounded by the largest remainder, never a whole class."""
    total = sum(sizes)
    exact = [count * size / total if total else 0.0 for size in sizes]
    quotas = [min(int(share), max(size - 1, 0)) for share, size in zip(exact, sizes, strict=True)]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (quotas[i] - exact[i], i))
    for i in by_remainder:
        if sum(quotas) < count and quotas[i] < sizes[i] - 1:
            quotas[i] += 1
    return quotas
