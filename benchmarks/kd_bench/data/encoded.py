"""The images of an ImageNet split as they are stored: where each is, its class, and how it is decoded."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kd_bench.errors import UserError


class EncodedImages(ABC):
    """Images in the order of their classes, and within a class of their keys; so wherever they are stored.

    Names and places are arrays, not lists: worker processes share those with this one without copying them.

    Args:
        keys: ``wnid/name`` of each image, without the ending of the file; in any order.

    Attributes:
        wnids: the classes, sorted.
        keys: in order, as bytes.
        labels: class indices, ``(N,)``.
        order: position of each image among the ``keys`` that were given.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        given = np.array([key.encode() for key in keys])
        classes = [key.partition("/")[0] for key in keys]
        self.wnids: tuple[str, ...] = tuple(sorted(set(classes)))
        numbers = {wnid: number for number, wnid in enumerate(self.wnids)}
        labels = np.array([numbers[wnid] for wnid in classes], dtype=np.int64)
        self.order = np.lexsort((given, labels))
        self.keys = given[self.order]
        self.labels: Tensor = torch.from_numpy(labels[self.order])

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Where an image is, for errors."""

    def load(self, index: int) -> Image.Image:
        """Decode an image, in colour.

        Raises:
            UserError: if it cannot be read; the message names the file.
        """
        try:
            return Image.open(io.BytesIO(self.read(index))).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{self.name(index)} is not an image that can be read: {error}. Replace it by the original file."
            ) from error


def check_keys(keys: Sequence[str], where: str) -> None:
    """Refuse keys that do not name one image each, or that shards cannot hold.

    Args:
        keys: ``wnid/name`` of each image.
        where: what has them, for the error.

    Raises:
        UserError: if there are such keys.
    """
    seen: set[str] = set()
    for key in keys:
        folder, slash, name = key.partition("/")
        if not (folder and slash and name):
            raise UserError(
                f"{where} has the image {key!r} outside of any class; expected it in the folder of a class."
            )
        if key in seen:
            raise UserError(f"{where} has two images called {key!r}, with different endings; remove one.")
        seen.add(key)
