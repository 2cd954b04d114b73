"""Fingerprints are equal for equal things, in every process, and differ after a change."""

import dataclasses
import enum
import functools
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from lightning_kd.cache.errors import FingerprintError
from lightning_kd.cache.fingerprint import fingerprint

SCALE = 2.0


class Colour(enum.Enum):
    RED = 1
    BLUE = 1.5


class Scale:
    """Written here, so its code counts."""

    factor = 2

    def __init__(self, by=1.0):
        self.by = by

    def __call__(self, image):
        return image * self.by * SCALE


class Slotted:
    __slots__ = ("__private", "size")

    def __init__(self, size, private):
        self.size, self.__private = size, private


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int
    mode: str = "a"


def adder(number):
    return lambda image: image + number


DIFFERENT = [
    [1, 1.0, True, "1", b"1", None, (1,), [1], {1}, frozenset({1}), {1: None}, np.int64(1), torch.tensor(1)],
    [[1, 2], [2, 1], [1, [2]], [[1, 2]], [[1], 2], [1, 2, 3]],
    [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}],
    [Colour.RED, Colour.BLUE, InterpolationMode.BILINEAR, InterpolationMode.BICUBIC],
    [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.half), torch.tensor([0, 0, 0, 1.0]), np.zeros(4)],
    [torch.float32, torch.float16, torch.device("cpu"), torch.Size([1])],
    [Scale(), Scale(2.0), Scale, Settings(1), Settings(2), Settings(1, "b"), Slotted(1, 2), Slotted(1, 3)],
    [adder(1), adder(2), lambda image: image + 1, lambda image: image - 1, functools.partial(adder, 1)],
    [functools.partial(adder, 1), functools.partial(adder, 2), functools.partial(adder, number=1)],
    [Scale().__call__, Scale(2.0).__call__, str.upper, str.lower, len, np.sin, torch.sin, torch.cos],
    [v2.RandomResizedCrop(8), v2.RandomResizedCrop(8, antialias=False), v2.RandomCrop(8)],
    [
        v2.Compose([v2.RandomHorizontalFlip(0.5)]),
        v2.Compose([v2.RandomHorizontalFlip(0.4)]),
        v2.Compose([v2.CenterCrop(2)]),
    ],
    [Image.new("RGB", (2, 2)), Image.new("RGB", (2, 3)), Image.new("RGB", (2, 2), "red"), Image.new("L", (2, 2))],
    [Path("a"), Path("b"), range(3), range(4), slice(3)],
]


@pytest.mark.parametrize("values", DIFFERENT)
def test_different_things_differ(values):
    assert len({fingerprint(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: adder(3),
        lambda: [{1, 2, "x", "yz"}, frozenset({"a", "b"})],
        lambda: v2.Compose([v2.RandAugment(), v2.ToDtype(torch.float32, scale=True), v2.Lambda(adder(1))]),
        lambda: Slotted(1, {"a": np.arange(3)}),
        lambda: [np.array([1, None], dtype=object), np.dtype("int8")],
        lambda: torch.nn.Linear(2, 2).requires_grad_(False).double().__class__,
    ],
)
def test_equal_things_are_equal(make):
    assert fingerprint(make()) == fingerprint(make())


def test_generators_count_by_their_class_only():
    one, other = random.Random(1), random.Random(2)
    other.random()
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(np.random.default_rng(1)) == fingerprint(np.random.default_rng(2))
    assert fingerprint(one) != fingerprint(torch.Generator())


def test_cycles_end():
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint([1, [1]])
    node = Scale()
    node.child = Scale()
    node.child.parent = node
    assert fingerprint(node) != fingerprint(Scale())


def test_functions_follow_what_they_read(monkeypatch):
    before = fingerprint(Scale())
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert fingerprint(Scale()) != before
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)
    assert fingerprint(Scale()) == before
    monkeypatch.setattr(Scale, "factor", 3)
    assert fingerprint(Scale()) != before


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (threading.Lock(), r"^no fingerprint can be taken of transform, a lock"),
        ([1, {"a": iter([1])}], r"transform\[1\]\['a'\], a list_iterator"),
        (adder(threading.Lock()), r"transform \(its variable number\)"),
        ((i for i in range(2)), "a generator"),
        (sys._getframe(), "a frame"),
    ],
)
def test_what_hides_its_state_is_refused_by_name(value, name):
    with pytest.raises(FingerprintError, match=name):
        fingerprint(value, "transform")


def test_files_and_memory_maps(tmp_path):
    with (tmp_path / "x").open("w") as file, pytest.raises(FingerprintError):
        fingerprint(file)
    array = np.memmap(tmp_path / "y", dtype=np.uint8, mode="w+", shape=4)
    before = fingerprint(array)
    assert before == fingerprint(np.memmap(tmp_path / "y", dtype=np.uint8, mode="r", shape=4))
    assert before != fingerprint(np.memmap(tmp_path / "y", dtype=np.uint8, mode="r", shape=3))


MODULE = """
    import torch
    OFFSET = {offset}

    def helper(x):
        return x + OFFSET

    class Noise:
        names = {{"b", "a", "longer name", "c"}}
        def __init__(self):
            self.strength = {{1: "one", "two": (2.0, None)}}
        def __call__(self, x):
            return {body}
"""


def printed(folder, offset="1", body="helper(x)", hash_seed="1"):
    (folder / "noise.py").write_text(textwrap.dedent(MODULE).format(offset=offset, body=body))
    code = "import noise; from lightning_kd.cache.fingerprint import fingerprint; print(fingerprint(noise.Noise()))"
    environment = {"PYTHONPATH": ":".join([str(folder), *sys.path]), "PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.mark.slow
def test_other_processes_agree_and_edited_code_does_not(tmp_path):
    first = printed(tmp_path)
    assert printed(tmp_path, hash_seed="2") == first
    assert len({first, printed(tmp_path, offset="2"), printed(tmp_path, body="helper(x) * 2")}) == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, VALUES)
def test_equal_if_and_only_if_written_the_same(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (repr(one) == repr(other))
