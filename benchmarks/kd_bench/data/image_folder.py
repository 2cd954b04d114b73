"""ImageNet as a folder of images: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torchvision

from kd_bench.data.encoded import EncodedImages, check_keys
from kd_bench.errors import UserError


class FolderImages(EncodedImages):
    """One split, as torchvision's ``ImageFolder`` finds it.

    Args:
        folder: has a folder of images for each class.

    Raises:
        UserError: if it does not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_classes(folder)
        try:
            found = torchvision.datasets.ImageFolder(str(folder)).samples
        except FileNotFoundError as error:
            raise UserError(
                f"{folder} has classes without images: {' '.join(str(error).split())} Unpack the archives of these "
                "classes, or remove the empty folders."
            ) from error
        # as strings: a million Paths take their time
        start = len(os.path.join(folder, ""))
        files = [path[start:].replace(os.sep, "/") for path, _ in found]
        keys = [file.rpartition(".")[0] for file in files]
        check_keys(keys, str(folder))
        super().__init__(keys)
        self._files = np.array([file.encode() for file in files])[self.order]

    def path(self, index: int) -> Path:
        """The file of an image."""
        file: bytes = self._files[index]
        return self.folder / file.decode()

    def read(self, index: int) -> bytes:
        """The encoded image."""
        return self.path(index).read_bytes()

    def name(self, index: int) -> str:
        """The file of an image."""
        return str(self.path(index))


def _check_classes(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}. Expected the images of ImageNet in {folder}/<wnid>/*.JPEG, such as "
            "n01440764/n01440764_10026.JPEG; put them there, or a link to them."
        )
    if any(entry.is_dir() for entry in folder.iterdir()):
        return
    if archives := sorted(folder.glob("*.tar")):
        raise UserError(
            f"{folder} has the archives of the classes ({archives[0].name} …) but no folders; unpack each into a "
            "folder of its name."
        )
    raise UserError(
        f"the images in {folder} are not sorted into classes: there are no folders in it. The validation images are "
        f"published in one folder; move each into the folder of its class, {folder}/<wnid>/, by the ground truth of "
        "the development kit (torchvision.datasets.ImageNet does so from the original archives)."
    )
