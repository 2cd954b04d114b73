"""Where the files of Fashion-MNIST are on this machine; where they are not, they are downloaded."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from kd_bench.data.places import DATA_VARIABLE, data_dir, refuse_download
from kd_bench.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = tuple(f"{part}-{content}-ubyte.gz" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1"))
_TORCHVISION = Path("FashionMNIST", "raw")


def find_files(root: Path | None = None) -> Path:
    """The folder with the four files; they are as their authors publish them, packed by gzip.

    Looked for in :func:`~kd_bench.data.places.data_dir`, its ``fashion-mnist`` and torchvision's ``FashionMNIST/raw``,
    then in the folder of Debian's package ``dataset-fashion-mnist``. As a last resort torchvision downloads them.

    Args:
        root: the folder itself, in place of all these.

    Raises:
        UserError: if they are nowhere and cannot be downloaded, or ``KD_BENCH_DATA`` is not a folder.
    """
    if root is not None:
        if missing := _missing(root):
            raise UserError(f"{root} lacks {_describe(missing)}; put the files there, or write the data anew.")
        return root
    root = data_dir()
    places = [root, root / "fashion-mnist", root / _TORCHVISION, DEBIAN]
    for place in places:
        if not _missing(place):
            return place
    _download(root, places)
    return root / _TORCHVISION


def _missing(place: Path) -> list[str]:
    return [name for name in FILES if not os.access(place / name, os.R_OK)]


def _download(root: Path, places: list[Path]) -> None:
    import torchvision

    refuse_download("Fashion-MNIST")
    target = root / _TORCHVISION
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".fashion-mnist.lock"):
            if not _missing(target):
                return  # another process has downloaded them meanwhile
            # torchvision checks what it has downloaded, but leaves the rest of an interrupted download in place
            with TemporaryDirectory(dir=root, prefix=".fashion-mnist-") as temporary:
                torchvision.datasets.FashionMNIST(temporary, download=True)
                for name in FILES:
                    os.replace(Path(temporary) / _TORCHVISION / name, target / name)
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        looked = "; ".join(f"{place} lacks {_describe(_missing(place))}" for place in places)
        raise UserError(
            f"Fashion-MNIST is not on this machine, and downloading it to {target} failed: "
            f"{' '.join(str(error).split())}. Looked for: {looked}. Install Debian's package (apt install "
            f"dataset-fashion-mnist), or set {DATA_VARIABLE} to a folder that has the four files {', '.join(FILES)}."
        ) from error


def _describe(missing: list[str]) -> str:
    return "all files" if len(missing) == len(FILES) else " and ".join(missing)
