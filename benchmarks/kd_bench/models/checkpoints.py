"""Teachers from files: the public checkpoints of the field, local or downloaded, and our own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from torch import nn

from kd_bench.errors import UserError
from kd_bench.models.containers import Weights, read_weights
from kd_bench.models.download import fetch, normal_sha256
from kd_bench.models.registry import create_model, list_models
from kd_bench.storage import file_sha256


def load_teacher(
    name: str,
    source: str | Path,
    *,
    num_classes: int = 100,
    in_channels: int = 3,
    sha256: str | None = None,
    cache_dir: str | Path | None = None,
) -> nn.Module:
    """Create the network ``name`` with the weights of ``source``.

    Every layout of the public CIFAR-100 repositories is understood, see
    :func:`~kd_bench.models.containers.read_weights`. From a distillation run's checkpoint, which holds a student and a
    teacher, the one that ``name`` fits is taken, the student if both do. Files are read without running code from them.

    Args:
        name: a network, see :func:`~kd_bench.models.create_model`.
        source: a local path, or an address, which is downloaded once. ``#`` and a name after it choose a file in a tar
            or zip archive: ``"https://…/cifar_teachers.tar#cifar_teachers/resnet56_vanilla/ckpt_epoch_240.pth"``.
        num_classes: width of the logits.
        in_channels: channels of the images.
        sha256: hash of the file (of the archive, if it is one), or at least its first eight digits, verified before
            the file is opened.
        cache_dir: where downloads are kept; beside those of ``torch.hub`` by default.

    Returns:
        The network, in eval mode, on the CPU.

    Raises:
        UserError: if the file is missing, cannot be fetched, has another hash, is no checkpoint, or holds the weights
            of another network or for another number of classes.
    """
    network = create_model(name, num_classes=num_classes, in_channels=in_channels)
    path, member = locate(source, sha256, cache_dir)
    candidates = read_weights(path, member)
    comparisons = [_compare(network, weights) for weights in candidates]
    for weights, comparison in zip(candidates, comparisons, strict=True):
        if not comparison.problems:
            # Without its metadata a state dict counts as old, and batch norm fills in a missing num_batches_tracked.
            network.load_state_dict(weights)
            return network.eval()
    best = max(range(len(candidates)), key=lambda index: comparisons[index].share)
    raise UserError(_explain(name, source, num_classes, candidates[best], comparisons[best]))


def locate(source: str | Path, sha256: str | None, cache_dir: str | Path | None = None) -> tuple[Path, str | None]:
    """The file of a checkpoint, downloaded if need be, and the name of its member if it is an archive.

    Args:
        source: see :func:`load_teacher`.
        sha256: hash of the file, likewise.
        cache_dir: where downloads are kept.

    Raises:
        UserError: if there is no such file, or it has another hash.
    """
    expected = normal_sha256(sha256)
    location, member = str(source), ""
    if not Path(location).exists():
        location, _, member = location.partition("#")
    if "://" in location and urlsplit(location).scheme != "file":
        return fetch(location, sha256=expected, cache_dir=cache_dir), member or None
    path = Path(url2pathname(urlsplit(location).path) if "://" in location else location).expanduser()
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise UserError(f"the checkpoint {path} {what}. Expected a file, or an address with https://.")
    if expected is not None and not (found := file_sha256(path)).startswith(expected):
        raise UserError(
            f"{path} has the wrong checksum: expected sha256 {expected}, found {found}. It is damaged or another file; "
            "replace it, or correct the sha256."
        )
    return path, member or None


@dataclass(frozen=True)
class _Comparison:
    """How weights differ from a network.

    Attributes:
        missing: keys that only the network has.
        unexpected: keys that only the weights have.
        reshaped: keys whose shapes differ, with the shape found and the one expected.
        share: part of the keys of either that fit.
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    share: float

    @property
    def problems(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)


def _compare(network: nn.Module, weights: Weights) -> _Comparison:
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    reshaped = {key: (shape, expected[key]) for key, shape in found.items() if expected.get(key, shape) != shape}
    fitting = len(expected.keys() & found.keys()) - len(reshaped)
    return _Comparison(
        # Files written before PyTorch 0.4.1 lack the counters of batch norm, which matter to no output.
        missing=[key for key in expected if key not in found and not key.endswith("num_batches_tracked")],
        unexpected=[key for key in found if key not in expected],
        reshaped=reshaped,
        share=fitting / max(len(expected.keys() | found.keys()), 1),
    )


def _explain(name: str, source: str | Path, num_classes: int, weights: Weights, comparison: _Comparison) -> str:
    classes = _other_classes(comparison, num_classes)
    if classes is not None:
        return (
            f"{source} holds a {name} for {classes} classes, expected {num_classes}. Student and teacher must know the "
            f"same classes: take a teacher trained on this data, or say num_classes={classes}."
        )
    shapes = [f"{key} {found} instead of {expected}" for key, (found, expected) in comparison.reshaped.items()]
    lists = (("missing", comparison.missing), ("unexpected", comparison.unexpected), ("of another shape", shapes))
    details = "; ".join(f"{what} {_first(entries)}" for what, entries in lists if entries)
    return f"{source} does not hold the weights of {name!r}: {details}. {_suggest(weights, num_classes)}"


def _other_classes(comparison: _Comparison, num_classes: int) -> int | None:
    """For how many classes the weights are, if that is all that differs."""
    widths = {found[0] for found, _ in comparison.reshaped.values() if found}
    only_width = all(
        found[1:] == expected[1:] and expected[:1] == (num_classes,) for found, expected in comparison.reshaped.values()
    )
    fits_otherwise = not comparison.missing and not comparison.unexpected
    return widths.pop() if fits_otherwise and only_width and len(widths) == 1 else None


def _suggest(weights: Weights, num_classes: int) -> str:
    """The network of the zoo that the weights fit best."""
    *_, last = weights.values()  # the classifier's bias, in every network of the zoo
    classes = len(last) if last.dim() == 1 else num_classes
    comparisons: dict[str, _Comparison] = {}
    for candidate in list_models():
        with torch.device("meta"):
            comparisons[candidate] = _compare(create_model(candidate, num_classes=classes), weights)
    best = max(comparisons, key=lambda candidate: comparisons[candidate].share)
    if not comparisons[best].problems:
        return f"They are those of {best!r} for {classes} classes; ask for that model, or give another file."
    return f"The nearest network is {best!r}, which {comparisons[best].share:.0%} of the tensors fit."


def _first(entries: Iterable[str], limit: int = 3) -> str:
    shown = list(entries)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more
