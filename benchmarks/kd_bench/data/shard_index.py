"""Where the images are in a shard: found by reading the tar headers once, and kept beside the shard."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kd_bench.errors import UserError
from kd_bench.models.download import default_cache_dir
from kd_bench.storage import write_atomic

IMAGE = ".jpg"
LABEL = ".cls"
_BLOCK = 512

Count = Annotated[int, Field(ge=0)]


class ShardIndex(BaseModel):
    """The images of one shard, in its order.

    Attributes:
        version: of this format.
        size: of the shard, in bytes.
        keys: ``wnid/name`` of each image.
        labels: class of each image.
        offsets: where each image begins in the shard.
        lengths: of each image, in bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    size: Count
    keys: tuple[str, ...]
    labels: tuple[Count, ...]
    offsets: tuple[Count, ...]
    lengths: tuple[Count, ...]


def read_index(shard: Path) -> ShardIndex:
    """The index of a shard: the one kept, or a new one, which is then kept.

    Raises:
        UserError: if the shard is not a complete tar file of images with labels.
    """
    for place in _places(shard):
        try:
            index = ShardIndex.model_validate_json(place.read_bytes())
        except (OSError, ValidationError):
            continue
        if _fits(index, shard):
            return index
    index = scan(shard)
    keep_index(shard, index)
    return index


def keep_index(shard: Path, index: ShardIndex) -> None:
    """Write the index beside the shard, or where that is not allowed, into the cache."""
    content = (index.model_dump_json() + "\n").encode()
    for place in _places(shard):
        try:
            write_atomic(place, content)
        except OSError:
            continue
        return


def scan(shard: Path) -> ShardIndex:
    """Read the headers of a shard.

    Raises:
        UserError: if it is not a complete tar file of images with labels.
    """
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                key, ending = member.name[:-4], member.name[-4:]
                if member.isreg() and ending == IMAGE:
                    images[key] = member.offset_data, member.size
                elif member.isreg() and ending == LABEL:
                    content = tar.extractfile(member)
                    labels[key] = int(content.read(20)) if content else -1
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{shard} is not a complete shard: {error}. Remove it and pack it anew.") from error
    if images.keys() != labels.keys() or not images:
        lonely = min(images.keys() ^ labels.keys(), default="no image at all")
        raise UserError(
            f"{shard} does not have a {IMAGE} and a {LABEL} for every image ({lonely}); expected shards as "
            "`lightning-kd bench shards` packs them."
        )
    return ShardIndex(
        size=shard.stat().st_size,
        keys=tuple(images),
        labels=tuple(labels[key] for key in images),
        offsets=tuple(offset for offset, _ in images.values()),
        lengths=tuple(length for _, length in images.values()),
    )


def _places(shard: Path) -> tuple[Path, Path]:
    digest = hashlib.sha256(str(shard.resolve()).encode()).hexdigest()[:16]
    return shard.with_suffix(".json"), default_cache_dir() / "shards" / f"{shard.stem}-{digest}.json"


def _fits(index: ShardIndex, shard: Path) -> bool:
    """Whether size and the names of the first and the last image are still the shard's."""
    if shard.stat().st_size != index.size:
        return False
    with shard.open("rb") as file:
        for key, offset in ((index.keys[0], index.offsets[0]), (index.keys[-1], index.offsets[-1])):
            file.seek(max(0, offset - _BLOCK))
            if not file.read(_BLOCK).startswith(f"{key}{IMAGE}\0".encode()):
                return False
    return True
