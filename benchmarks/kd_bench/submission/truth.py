"""What the test set of a protocol really is, as far as it is on this machine; nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_bench.data.base import BenchmarkData, open_data
from kd_bench.data.places import only_what_is_here
from kd_bench.detection.annotations import Annotations
from kd_bench.detection.data import DetectionData
from kd_bench.errors import UserError
from kd_bench.protocol import load_protocol


@cache
def test_labels(protocol_id: str) -> npt.NDArray[np.int64] | str:
    """Classes of the test samples in their order, ``(N,)``; or why they are not at hand.

    Args:
        protocol_id: a protocol of classification.
    """
    data = _open(protocol_id)
    if isinstance(data, str):
        return data
    dataset: Any = data.test_dataloader().dataset
    labels = getattr(dataset, "labels", None)
    if labels is None:
        return f"the data of {protocol_id} does not tell its labels"
    found: npt.NDArray[np.int64] = labels.numpy().astype(np.int64)
    return found


@cache
def num_classes(protocol_id: str) -> int | None:
    """Number of classes; ``None`` where the data is not at hand.

    Args:
        protocol_id: the protocol.
    """
    data = _open(protocol_id)
    found = getattr(data, "num_classes", None)
    return found if isinstance(found, int) else None


@cache
def test_annotations(protocol_id: str) -> Annotations | str:
    """What is to be found in the test images; or why that is not at hand.

    Args:
        protocol_id: a protocol of detection.
    """
    data = _open(protocol_id)
    if isinstance(data, str):
        return data
    assert isinstance(data, DetectionData)
    return data.truth("test")


@cache
def _open(protocol_id: str) -> BenchmarkData | str:
    protocol = load_protocol(protocol_id)
    try:
        with only_what_is_here():
            return open_data(protocol.data, protocol.student_recipe, 0)
    except (UserError, ImportError, OSError) as error:
        return str(error)
