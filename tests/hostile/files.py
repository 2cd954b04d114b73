"""Files that may not be in a submission, and archives that are none."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hostile.edits import put_arrays, put_members, put_predictions
from hostile.table import MARKER, case
from hostile.valid import (
    detector_entry,
    own_entry,
)


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _npy(content: bytes, header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@case("pickled objects in an array", "archive", "pickle")
def _(entry: Path) -> None:
    payload = pickle.dumps(Payload(entry.parents[4] / MARKER))
    array = _npy(payload, "{'descr': '|O', 'fortran_order': False, 'shape': (539,), }")
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", array)))


@case("object array as numpy writes it", "archive", "pickle")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(predicted=np.array([Payload(entry.parents[4] / MARKER)] * 539)))


@case("pickle in place of the archive", "archive", "intact")
def _(entry: Path) -> None:
    put_predictions(entry, pickle.dumps(Payload(entry.parents[4] / MARKER)))


@case("pickle beside the predictions", "files", "does not belong")
def _(entry: Path) -> None:
    (entry / "weights.pt").write_bytes(pickle.dumps(Payload(entry.parents[4] / MARKER)))


@case("zip bomb", "size", "bomb")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", bytes(300_000_000))))


@case("zip bomb of moderate ratio", "size", "unpacks to")
def _(entry: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 40_000, dtype=np.uint8).tobytes()
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", b"".join([noise[:30_000] * 400]))))


@case("declared size is smaller than the real one", "archive", "intact")
def _(entry: Path) -> None:
    content = bytearray((entry / "seed-0.npz").read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 100)
    put_predictions(entry, bytes(content))


@case("thousands of members", "archive", "members")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.extend((f"a{number}.npy", b"") for number in range(5000)))


@case("member that leads out of the archive", "archive", "leads elsewhere")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.append(("../../../../executed", b"x")))


@case("member with an absolute name", "archive", "leads elsewhere")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.append(("/tmp/executed", b"x")))


@case("member with a Windows drive", "archive", "leads elsewhere")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.append(("C:executed", b"x")))


@case("member twice", "archive", "members")
def _(entry: Path) -> None:
    put_members(entry, lambda members: members.append(members[0]))


@case("additional array", "archive", "members")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(extra=np.zeros(3)))


@case("array is missing", "archive", "expected the arrays")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.pop("label"))


@case("bytes hidden behind the archive", "archive", "hidden")
def _(entry: Path) -> None:
    put_predictions(entry, (entry / "seed-0.npz").read_bytes() + b"#!/bin/sh\ntouch executed\n")


@case("bytes hidden before the archive", "archive", "hidden")
def _(entry: Path) -> None:
    put_predictions(entry, b"#!/bin/sh\ntouch executed\n" + (entry / "seed-0.npz").read_bytes())


@case("comment in the archive", "archive", "comment")
def _(entry: Path) -> None:
    content = bytearray((entry / "seed-0.npz").read_bytes())
    content[-2:] = struct.pack("<H", 5)
    put_predictions(entry, bytes(content) + b"hello")


@case("archive is cut off", "archive", "intact")
def _(entry: Path) -> None:
    put_predictions(entry, (entry / "seed-0.npz").read_bytes()[:3000])


@case("unusual compression", "archive", "compressed unusually")
def _(entry: Path) -> None:
    put_members(entry, lambda members: None, compression=zipfile.ZIP_LZMA)


@case("other format of arrays", "archive", "format 1.0")
def _(entry: Path) -> None:
    def change(members: list[tuple[str, bytes]]) -> None:
        members[0] = (members[0][0], b"\x93NUMPY\x03\x00" + members[0][1][8:])

    put_members(entry, change)


@case("code in the header of an array", "archive", "header")
def _(entry: Path) -> None:
    array = _npy(b"", "{'descr': __import__('os').system('touch executed'), 'fortran_order': False, 'shape': (1,), }")
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", array)))


@case("array claims to be huge", "archive", "shape")
def _(entry: Path) -> None:
    array = _npy(bytes(539), "{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999,), }")
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", array)))


@case("array in Fortran order", "archive", "Fortran")
def _(entry: Path) -> None:
    array = _npy(bytes(539), "{'descr': '|u1', 'fortran_order': True, 'shape': (539,), }")
    put_members(entry, lambda members: members.__setitem__(0, ("predicted.npy", array)))


@case("structured array", "archive", "header")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(predicted=np.zeros(539, dtype=[("a", "u1"), ("b", "u1")])))


@case("array of another type", "archive", "expected <f4")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(confidence=arrays["confidence"].astype(np.float64)))


@case("array of the wrong byte order", "archive", "expected <f4")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(confidence=arrays["confidence"].astype(">f4")))


@case("arrays of different lengths", "predictions", "shape")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(predicted=arrays["predicted"][:-1]))


@case("a matrix in place of a vector", "predictions", "shape")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update(confidence=np.ones((539, 4), dtype=np.float32)))


@case("no predictions at all", "predictions", "no predictions")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update({name: array[:0] for name, array in arrays.items()}))


@case("too few samples", "labels", "samples")
def _(entry: Path) -> None:
    put_arrays(entry, lambda arrays: arrays.update({name: array[:100] for name, array in arrays.items()}))


@case("file is a symbolic link", "links", "symbolic")
def _(entry: Path) -> None:
    (entry / "seed-0.npz").rename(entry.parents[4] / "elsewhere.npz")
    (entry / "seed-0.npz").symlink_to(entry.parents[4] / "elsewhere.npz")


@case("run set is a symbolic link to a secret", "links", "symbolic")
def _(entry: Path) -> None:
    (entry / "run_set.json").unlink()
    (entry / "run_set.json").symlink_to("/etc/passwd")


@case("folder of the entry is a symbolic link", "links", "symbolic")
def _(entry: Path) -> None:
    entry.rename(entry.parents[4] / "elsewhere")
    entry.symlink_to(entry.parents[4] / "elsewhere")


@case("folder of the method is a symbolic link", "links", "symbolic")
def _(entry: Path) -> None:
    entry.parent.rename(entry.parents[4] / "elsewhere")
    entry.parent.symlink_to(entry.parents[4] / "elsewhere")


@case("results are a symbolic link", "links", "symbolic")
def _(entry: Path) -> None:
    entry.parents[2].rename(entry.parents[4] / "elsewhere")
    entry.parents[2].symlink_to(entry.parents[4] / "elsewhere")


@case("hard link", "links", "hard link")
def _(entry: Path) -> None:
    os.link(entry / "seed-0.npz", entry.parents[4] / "elsewhere.npz")


@case("named pipe that nobody writes to", "files", "pipe")
def _(entry: Path) -> None:
    (entry / "seed-0.npz").unlink()
    os.mkfifo(entry / "seed-0.npz")


@case("run set is a folder", "files", "is a folder")
def _(entry: Path) -> None:
    (entry / "run_set.json").unlink()
    (entry / "run_set.json").mkdir()


@case("run set of a gigabyte", "size", "bytes")
def _(entry: Path) -> None:
    os.truncate(entry / "run_set.json", 1_000_000_000)


@case("predictions of a gigabyte", "size", "bytes")
def _(entry: Path) -> None:
    os.truncate(entry / "seed-0.npz", 1_000_000_000)


@case("method of a gigabyte", "size", "bytes", own_entry)
def _(entry: Path) -> None:
    os.truncate(entry / "method.py", 1_000_000_000)


@case("predictions larger than a classifier has", "size", "at most 5,000,000")
def _(entry: Path) -> None:
    put_predictions(entry, (entry / "seed-0.npz").read_bytes() + bytes(6_000_000))


@case("files that are large together", "size", "together", detector_entry)
def _(entry: Path) -> None:
    for seed in range(3):
        os.truncate(entry / f"seed-{seed}.npz", 24_000_000)


for extra in ("setup.py", "conftest.py", "run.sh", ".gitattributes", ".bashrc", "seed-0.npz.bak", "seed-00.npz", "AUX"):

    @case(f"additional file {extra}", "files", "does not belong")
    def _(entry: Path, extra: str = extra) -> None:
        (entry / extra).write_text("touch executed")


@case("file with terminal sequences in its name", "files", "\\x1b")
def _(entry: Path) -> None:
    (entry / "\x1b]0;owned\x07\n::error::x").write_text("")


@case("folder .git", "files", "does not belong")
def _(entry: Path) -> None:
    (entry / ".git" / "hooks").mkdir(parents=True)
    (entry / ".git" / "hooks" / "post-checkout").write_text("touch executed")


@case("deep nesting", "files", "does not belong")
def _(entry: Path) -> None:
    (entry / "/".join("a" * 60)).mkdir(parents=True)


@case("file beside the methods", "files", "does not belong")
def _(entry: Path) -> None:
    (entry.parents[1] / "sitecustomize.py").write_text("open('executed', 'w')")


@case("hidden folder beside the protocols", "files", "not accepted")
def _(entry: Path) -> None:
    (entry.parents[2] / ".github").mkdir()


@case("too many files", "files", "more than 64")
def _(entry: Path) -> None:
    for number in range(200):
        (entry / f"seed-{number + 10}.npz").write_bytes(b"")


@case("predictions of a seed that was not run", "files", "no run")
def _(entry: Path) -> None:
    shutil.copy(entry / "seed-0.npz", entry / "seed-77.npz")


@case("predictions are missing", "files", "missing")
def _(entry: Path) -> None:
    (entry / "seed-1.npz").unlink()


@case("run set is missing", "files", "missing")
def _(entry: Path) -> None:
    (entry / "run_set.json").unlink()
