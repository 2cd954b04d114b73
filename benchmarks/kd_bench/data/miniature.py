"""Tiny copies of CIFAR-100, ImageNet and Fashion-MNIST in the real formats, made of scikit-learn's digits: for a try.

The images are written by this package, so the same classes read them that read the real data, on the same paths.
"""

from __future__ import annotations

import colorsys
import contextlib
import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from kd_bench.data.cifar_files import ARCHIVE, FOLDER
from kd_bench.storage import write_atomic

_COLOURS = 10


def write_cifar100(directory: Path, *, train: int = 200, test: int = 100) -> dict[str, Any]:
    """Write ``cifar-100-python.tar.gz``; its hundred classes, of which few images show some, are digits in ten colours.

    Args:
        directory: where to; in it the copy gets a folder that no other copy has.
        train: number of training images.
        test: number of test images; of other digits than those.

    Returns:
        Parameters with which :class:`~kd_bench.data.cifar.CIFAR100` reads it.
    """
    names = [f"{digit}_{colour}" for digit in range(10) for colour in range(_COLOURS)]
    files = {
        "train": _cifar_file("training batch 1 of 1", train, 0),
        "test": _cifar_file("testing batch 1 of 1", test, 1),
        "meta": {"fine_label_names": names, "coarse_label_names": [str(digit) for digit in range(10)]},
    }
    # the pickle protocol of the original files
    contents = {name: pickle.dumps(content, protocol=2) for name, content in files.items()}
    archive = _archive({f"{FOLDER}/{name}": content for name, content in contents.items()})
    checksums = {name: _md5(content) for name, content in {"archive": archive, **contents}.items()}
    root = directory / f"cifar100-{checksums['archive'][:12]}"
    if not (root / ARCHIVE).exists():
        write_atomic(root / ARCHIVE, archive)
    return {"root": str(root), "checksums": checksums, "sizes": {"train": train, "test": test}}


def write_imagenet(directory: Path, *, train: int = 6, val: int = 3) -> dict[str, Any]:
    """Write ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``; the ten classes are the digits.

    As in the original, sizes and shapes differ, and some images are grey.

    Args:
        directory: where to; in it the copy gets a folder that no other copy has.
        train: number of training images of each class.
        val: number of validation images of each class; of other digits than those.

    Returns:
        Parameters with which :class:`~kd_bench.data.imagenet.ImageNet` reads it.
    """
    root = directory / f"imagenet-{train}-{val}"
    if not root.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory, prefix=".imagenet-") as temporary:
            for part, (split, count) in enumerate((("train", train), ("val", val))):
                for digit in range(10):
                    _write_class(Path(temporary) / "whole" / split / f"n9000000{digit}", digit, part, count)
            # another process may have been faster
            with contextlib.suppress(OSError):
                os.replace(Path(temporary) / "whole", root)
    return {"root": str(root), "num_classes": 10, "counts": {"train": 10 * train, "val": 10 * val}}


def _write_class(folder: Path, digit: int, part: int, count: int) -> None:
    folder.mkdir(parents=True)
    for number, pixels in zip(range(count), _digits(digit, part), strict=False):
        image = _paint(pixels, number % _COLOURS, 256 + 32 * (number % 5), 384 - 32 * (number % 3))
        name = f"{folder.name}_{number}" if part == 0 else f"ILSVRC2012_val_{digit:04d}{number:04d}"
        (image.convert("L") if number % 4 == 3 else image).save(folder / f"{name}.JPEG", "JPEG", quality=90)


def write_fashion(directory: Path, *, train: int = 120, test: int = 30) -> dict[str, Any]:
    """Write the four files of Fashion-MNIST; its ten classes are the digits.

    Args:
        directory: where to.
        train: number of images in the training set, of which a third is the validation split.
        test: number of test images; of other digits than those.

    Returns:
        Parameters with which :class:`~kd_bench.data.fashion.FashionMNIST` reads it.
    """
    for part, (name, count) in enumerate({"train": train, "t10k": test}.items()):
        labels = np.arange(count) % 10
        digits = [_digits(digit, part) for digit in range(10)]
        pixels = [np.asarray(_paint(next(digits[label]), 0, 28, 28).convert("L")) for label in labels]
        for content, values in (("images-idx3", np.stack(pixels)), ("labels-idx1", labels)):
            write_atomic(directory / f"{name}-{content}-ubyte.gz", gzip.compress(_idx(values), mtime=0))
    return {"root": str(directory), "train_size": train - train // 3, "validation_size": train // 3}


def _idx(array: np.ndarray) -> bytes:
    """Bytes in the IDX format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def _cifar_file(title: str, count: int, part: int) -> dict[str, Any]:
    digits = [_digits(digit, part) for digit in range(10)]
    # at least two images of a class, so that one can be held out
    classes = min(100, max(1, count // 2))
    labels = [index % classes for index in range(count)]
    images = [_paint(next(digits[label // _COLOURS]), label % _COLOURS, 32, 32) for label in labels]
    pixels = np.stack([np.asarray(image).transpose(2, 0, 1).reshape(-1) for image in images])
    return {
        "filenames": [f"{label:02d}_s_{index:06d}.png" for index, label in enumerate(labels)],
        "batch_label": title,
        "fine_labels": labels,
        "coarse_labels": [label // _COLOURS for label in labels],
        "data": pixels,
    }


def _digits(digit: int, part: int) -> Iterator[np.ndarray]:
    """Images of a digit, again and again; those of part 1 are not among those of part 0."""
    bundle = _bundle()
    images = bundle.images[bundle.target == digit]
    first = len(images) * 4 // 5
    own = images[:first] if part == 0 else images[first:]
    while True:
        yield from own


@cache
def _bundle() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()


def _paint(pixels: np.ndarray, colour: int, width: int, height: int) -> Image.Image:
    """A digit in a colour, on a dark ground of the opposite one."""
    ink, ground = (
        np.array(colorsys.hsv_to_rgb((colour / _COLOURS + turn) % 1, 0.8, value)) * 255
        for turn, value in ((0.0, 1.0), (0.5, 0.25))
    )
    strength = (pixels / 16)[..., None]
    image = Image.fromarray((strength * ink + (1 - strength) * ground).round().astype(np.uint8))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    # without the time, so that equal files make an equal archive
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
