"""A data set whose random transforms can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import IterableDataset

from lightning_kd.cache.errors import FingerprintError
from lightning_kd.cache.fingerprint import fingerprint
from lightning_kd.data.replayable import ReplayableDataset
from lightning_kd.data.seeding import seed_of, seeded
from lightning_kd.data.wrapping import Wrapping


class Replayed(Wrapping, ReplayableDataset):
    """Any map-style data set, its random transforms drawn from (seed, view, index) alone.

    While a sample is drawn, PyTorch, NumPy and ``random`` are seeded, and so are transforms with a generator of their
    own that have ``set_random_seed`` (albumentations); afterwards the random states are as before. So transforms of
    torchvision v1 and v2, albumentations or your own code repeat bit for bit, wherever they run: in ``transform``, or
    inside the wrapped data set.

    Other attributes (``classes``, ``targets`` ...) are those of the wrapped data set. Split first, then wrap.

    Args:
        dataset: data set with ``__getitem__`` and ``__len__``.
        transform: applied to the first element of samples that are a tuple or list, ``(image, label)``, else to the
            sample; one of albumentations is called with ``image=``.
        seed: what the views are drawn from.
        views: how many different draws of every sample there are; epoch ``e`` shows view ``e % views``.
        fingerprint: a text that stands for data and transform, to be changed whenever they change; by default it is
            computed from both, see :func:`~lightning_kd.cache.fingerprint.fingerprint`.

    Raises:
        TypeError: if the data set is iterable-style, so that its samples have no index.
        ValueError: if ``views`` is not positive.

    Example::

        train = Replayed(CIFAR100(root), transform=augment, views=8)
        loader = DataLoader(train, batch_size=64, shuffle=True, num_workers=4)
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[..., Any] | None = None,
        seed: int = 0,
        views: int = 1,
        fingerprint: str | None = None,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        ):
            raise TypeError(
                f"Replayed needs a map-style data set (with __getitem__ and __len__), got {type(dataset).__name__}; "
                "samples of a stream have no stable index, so they cannot be drawn again"
            )
        super().__init__(views, seed)
        self.dataset, self.transform = dataset, transform
        self._seeders = [*_own_generators(transform), *_own_generators(dataset)]
        # now: some transforms keep what they drew last
        self._fingerprint, self._unknown = _fingerprint_of(dataset, transform, seed, fingerprint)

    @property
    def fingerprint(self) -> str:
        """What data, transform and seed are known by."""
        if self._unknown is not None:
            raise FingerprintError(self._unknown)
        return self._fingerprint

    def draw(self, index: int, view: int) -> Any:
        """The sample; see :class:`~lightning_kd.data.ReplayableDataset`."""
        seed = seed_of(self.seed, view, index)
        with seeded(seed):
            for position, owner in enumerate(self._seeders):
                owner.set_random_seed(seed_of(seed, position) & 0xFFFFFFFF)
            return apply(self.transform, self.dataset[index])

    def __repr__(self) -> str:
        return f"Replayed({self.dataset!r}, views={self.views}, seed={self.seed})"


def apply(transform: Callable[..., Any] | None, sample: Any) -> Any:
    """Transform the sample, or the first of its elements."""
    if transform is None:
        return sample
    if isinstance(sample, tuple | list):
        first = _call(transform, sample[0])
        return type(sample)((first, *sample[1:])) if type(sample) in (tuple, list) else (first, *sample[1:])
    return _call(transform, sample)


def _call(transform: Callable[..., Any], image: Any) -> Any:
    if type(transform).__module__.partition(".")[0] == "albumentations":
        return transform(image=image)["image"]
    return transform(image)


def _own_generators(holder: Any, depth: int = 4) -> Iterator[Any]:
    """The outermost transforms below ``holder`` that have a random generator of their own."""
    if holder is None or depth == 0:
        return
    if hasattr(type(holder), "set_random_seed"):
        yield holder
        return
    inner = [vars(holder).get(name) for name in ("transform", "transforms", "dataset")] if _has_state(holder) else []
    for item in inner:
        for part in item if isinstance(item, list | tuple) else [item]:
            yield from _own_generators(part, depth - 1)


def _has_state(holder: Any) -> bool:
    return hasattr(holder, "__dict__")


def _fingerprint_of(dataset: Any, transform: Any, seed: int, given: str | None) -> tuple[str, str | None]:
    """The fingerprint, or why there is none."""
    try:
        parts = [given] if given is not None else [fingerprint(dataset, "dataset"), fingerprint(transform, "transform")]
    except FingerprintError as error:
        return "", str(error)
    return fingerprint([*parts, seed]), None
