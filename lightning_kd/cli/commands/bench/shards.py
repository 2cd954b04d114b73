"""Pack a folder of ImageNet into shards.

Shards are a few large files in place of a million small ones, so that no file has to be opened for every image;
training from either gives the same results. Started again, an interrupted packing goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse.typing import PositiveInt

from lightning_kd.cli.bench_extra import bench_extra
from lightning_kd.cli.parser import command_parser


def main(arguments: Sequence[str]) -> int:
    """Pack, and say where the shards are."""
    parser = command_parser(__name__)
    parser.add_argument("source", metavar="SOURCE", help="Folder with train/<wnid>/*.JPEG and val/<wnid>/*.JPEG.")
    parser.add_argument("destination", metavar="DESTINATION", help="Folder for the shards.")
    parser.add_argument(
        "--shard-size", type=PositiveInt, metavar="N", default=10_000, help="Images in a shard; 10,000 are about 1 GB."
    )
    options = parser.parse_args(list(arguments))

    with bench_extra():
        from kd_bench.data.packing import pack

        packed = pack(Path(options.source), Path(options.destination), options.shard_size)
    print(
        f"{packed.images:,} images in {packed.written + packed.kept} shards, {packed.kept} of which were there before: "
        f"{options.destination}"
    )
    return 0
