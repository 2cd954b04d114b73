"""Training batches of images of similar shape, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from kd_bench.data.batches import Draw, check_divisible
from kd_bench.detection.categories import Integers
from kd_bench.errors import UserError


class GroupedDraws(Sampler[Draw]):
    """Batches in a random order that depends on ``seed`` and the epoch only; the images of a batch have similar shapes.

    Ratios of width to height are put into groups whose limits lie between 1/2 and 2, evenly on a logarithmic scale: of
    ``factor`` 3 they are 0.5, 0.63, 0.79, 1, 1.26, 1.59 and 2, as in torchvision's reference recipe. Images are drawn
    in random order, and a batch is complete when a group has enough of them. Every epoch has ``size // batch_size``
    batches. Where groups leave too few, the fullest of their rests are completed with images that the epoch had.

    The Trainer announces the epoch through :meth:`set_epoch`.

    Args:
        ratios: width divided by height of each image, ``(N,)``.
        batch_size: images in a batch, of all ranks together.
        seed: determines the order.
        factor: half the number of groups between 1/2 and 2; 0 for one group of all images.

    Raises:
        UserError: if there are fewer images than a batch needs.
    """

    def __init__(self, ratios: np.ndarray, batch_size: int, seed: int, factor: int = 3) -> None:
        if batch_size > len(ratios):
            raise UserError(f"batch_size {batch_size} exceeds the {len(ratios):,} training images; take a smaller one")
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.groups: Integers = _groups(ratios, factor)
        self.rank, self.world = 0, 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def set_ranks(self, rank: int, world: int) -> None:
        """Draw the same batches, of which this rank gets the ``rank``-th of ``world`` equal parts.

        Raises:
            UserError: if a batch cannot be divided equally.
        """
        check_divisible(self.batch_size, world, "batch")
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.groups) // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.groups))
        each = self.batch_size // self.world
        share = (self.rank * each, (self.rank + 1) * each) if self.world > 1 else None
        for batch in _batches(order, self.groups, self.batch_size):
            yield Draw(torch.from_numpy(batch), self.seed, self.epoch, share)


def _groups(ratios: np.ndarray, factor: int) -> Integers:
    if not factor:
        return np.zeros(len(ratios), dtype=np.int64)
    limits = 2.0 ** np.linspace(-1, 1, 2 * factor + 1)
    return np.asarray(np.digitize(ratios, limits), dtype=np.int64)


def _batches(order: Integers, groups: Integers, size: int) -> Iterator[Integers]:
    """See :class:`GroupedDraws`; ``order`` are positions in ``groups``."""
    members = {group: order[groups[order] == group] for group in np.unique(groups).tolist()}
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    whole, rests = [], []
    for own in members.values():
        cut = len(own) // size * size
        whole += np.split(own[:cut], cut // size) if cut else []
        if len(own) > cut:
            rests.append((own[cut:], own))
    # a batch is due when its last image is drawn
    whole.sort(key=lambda batch: int(place[batch[-1]]))
    yield from whole
    rests.sort(key=lambda rest: -len(rest[0]))
    for rest, own in rests[: len(order) // size - len(whole)]:
        # images of the same group from the epoch's beginning; again and again if the group is smaller than a batch
        yield np.concatenate([rest, np.resize(own, size - len(rest))])
