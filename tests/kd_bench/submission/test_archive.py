"""Archives of arrays are read without numpy's reader, and give what it gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hostile.valid import COMMITTED
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kd_bench.submission.archive import read_arrays
from kd_bench.submission.problem import RefusedError

KINDS = {"a": ("<f4",), "b": ("|u1", "<u2")}


def archive(**content: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


@given(
    vector=arrays(np.float32, st.integers(0, 50)),
    labels=arrays(np.uint8, st.integers(0, 50)) | arrays(np.uint16, st.integers(0, 50)),
    compressed=st.booleans(),
)
def test_what_numpy_writes_is_read(vector: np.ndarray, labels: np.ndarray, compressed: bool) -> None:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, a=vector, b=labels)
    found = read_arrays(buffer.getvalue(), KINDS, 10_000)
    np.testing.assert_array_equal(found["a"], vector)
    np.testing.assert_array_equal(found["b"], labels)
    assert (found["a"].dtype, found["b"].dtype) == (vector.dtype, labels.dtype)


def test_committed_files_are_read_as_numpy_reads_them() -> None:
    kinds = {"image_id": ("<i8",), "label": ("<u2",), "score": ("<f4",), "box": ("<f4",)}
    path = next((COMMITTED / "results" / "digits-detection-v1").rglob("seed-0.npz"))
    found = read_arrays(path.read_bytes(), kinds, 10_000_000)
    with np.load(path) as expected:
        for name in kinds:
            np.testing.assert_array_equal(found[name], expected[name])


def test_arrays_may_not_be_larger_together_than_allowed() -> None:
    content = archive(a=np.random.default_rng(0).random(1000, dtype=np.float32), b=np.zeros(10, np.uint8))
    assert read_arrays(content, KINDS, 4300)["a"].shape == (1000,)
    with pytest.raises(RefusedError, match="at most 4,000") as caught:
        read_arrays(content, KINDS, 4000)
    assert caught.value.rule == "size"


@pytest.mark.parametrize("shape", [(2, 2, 2), ()])
def test_only_vectors_and_columns_are_read(shape: tuple[int, ...]) -> None:
    with pytest.raises(RefusedError, match="plain vector"):
        read_arrays(archive(a=np.zeros(shape, np.float32), b=np.zeros(1, np.uint8)), KINDS, 10_000)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x93NUMPY", b"PK\x01\x02" * 1000])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_arrays(content, KINDS, 10_000)
    assert caught.value.rule == "archive"
