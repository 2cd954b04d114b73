"""COCO's metrics of detections, by faster-coco-eval or, with equal results but slower, by pycocotools.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312; the metrics are those of
https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from kd_bench.detection.annotations import Annotations
from kd_bench.detection.detections import Detections, problem_with
from kd_bench.errors import UserError
from kd_bench.names import unknown

Backend = Literal["faster-coco-eval", "pycocotools"]

RECALLS = tuple(step / 100 for step in range(101))
"""Where precision-recall curves are sampled."""

_MODULES: dict[Backend, str] = {"faster-coco-eval": "faster_coco_eval", "pycocotools": "pycocotools"}
_IOU_50, _IOU_75 = 0, 5
_ALL_AREAS, _MOST_DETECTIONS = 0, -1
_LARGEST = 1e10


@dataclass(frozen=True)
class Curves:
    """Precision at :data:`RECALLS`, mean over the classes that have objects.

    Attributes:
        iou_50: with boxes right from an IoU of 0.5 on.
        iou_75: from 0.75 on.
        mean: mean over the ten IoUs from 0.5 to 0.95; its mean is the AP.
    """

    iou_50: tuple[float, ...]
    iou_75: tuple[float, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, as fractions, and what they are made of.

    A size without objects, where COCO's programs say -1, is ``None``. Without detections all others are 0.

    Attributes:
        ap: average precision, mean over classes and the ten IoUs from 0.5 to 0.95.
        ap_50: at an IoU of 0.5.
        ap_75: at an IoU of 0.75.
        ap_small: of objects below 32² pixels.
        ap_medium: of objects from 32² to 96² pixels.
        ap_large: of objects above 96² pixels.
        ar_1: average recall with one detection of a class in an image.
        ar_10: with ten.
        ar_100: with a hundred.
        ar_small: of small objects, with a hundred.
        ar_medium: of medium objects.
        ar_large: of large objects.
        class_ap: AP of each class by its name; ``None`` for classes without objects.
        curves: precision-recall curves.
    """

    ap: float
    ap_50: float
    ap_75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    class_ap: dict[str, float | None]
    curves: Curves

    def stats(self) -> tuple[float | None, ...]:
        """The twelve numbers in the order in which COCO's programs print them."""
        return tuple(getattr(self, name) for name in _STATS)


_STATS = (
    *("ap", "ap_50", "ap_75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)


def choose_backend() -> Backend:
    """The fastest one that is installed.

    Raises:
        UserError: if none is.
    """
    for backend in get_args(Backend):
        if find_spec(_MODULES[backend]) is not None:
            found: Backend = backend
            return found
    raise UserError(
        "COCO's metrics need faster-coco-eval or pycocotools, and neither is installed: "
        "`pip install 'lightning-kd[detection]'`."
    )


def evaluate(annotations: Annotations, detections: Detections, backend: Backend | None = None) -> CocoMetrics:
    """COCO's metrics.

    Args:
        annotations: all images that were searched, with their objects.
        detections: what was found.
        backend: what computes them; by default :func:`choose_backend`.

    Raises:
        UserError: if no object is to be found, the detections do not belong to the images, or there is no such
            backend or it is not installed.
    """
    if problem := problem_with(detections, annotations):
        raise UserError(f"these are not detections on the images of {annotations.path}: {problem}.")
    if not (~annotations.crowd & (annotations.area <= _LARGEST)).any():
        raise UserError(f"{annotations.path} has no objects but crowds, so there is no precision; use other images.")
    # both number the IoUs, recalls, classes, areas and numbers of detections; -1 stands for classes without objects
    stats, precision = _run(backend or choose_backend(), _truth(annotations), _results(annotations, detections))
    named = {name: None if value < 0 else float(value) for name, value in zip(_STATS, stats, strict=True)}
    precision = precision[:, :, :, _ALL_AREAS, _MOST_DETECTIONS]
    present = precision[0, 0] > -1
    class_ap = {
        name: float(precision[:, :, place].mean()) if present[place] else None
        for place, name in enumerate(annotations.categories.names)
    }
    curves = precision[:, :, present].mean(axis=2)
    return CocoMetrics(
        **named,  # type: ignore[arg-type]  # those of all sizes are numbers, since there are objects
        class_ap=class_ap,
        curves=Curves(*(tuple(curve.tolist()) for curve in (curves[_IOU_50], curves[_IOU_75], curves.mean(axis=0)))),
    )


def _truth(annotations: Annotations) -> dict[str, Any]:
    owners = annotations.image_id[annotations.image].tolist()
    columns = zip(owners, _category(annotations, annotations.label), annotations.box.tolist(), strict=True)
    areas, crowds = annotations.area.tolist(), annotations.crowd.astype(int).tolist()
    # numbered anew: an object with the id 0 would count as not found
    objects = [
        {"id": number, "image_id": owner, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}
        for number, ((owner, category, box), area, crowd) in enumerate(zip(columns, areas, crowds, strict=True), 1)
    ]
    return {**_frame(annotations), "annotations": objects}


def _results(annotations: Annotations, detections: Detections) -> dict[str, Any]:
    corners = detections.box.astype(np.float64)
    sizes = corners[:, 2:] - corners[:, :2]
    boxes = np.concatenate([corners[:, :2], sizes], axis=1).tolist()
    columns = zip(
        detections.image_id.tolist(),
        _category(annotations, detections.label),
        boxes,
        (sizes[:, 0] * sizes[:, 1]).tolist(),
        detections.score.astype(np.float64).tolist(),
        strict=True,
    )
    found = [
        {
            "id": number,
            "image_id": owner,
            "category_id": category,
            "bbox": box,
            "area": area,
            "score": score,
            "iscrowd": 0,
        }
        for number, (owner, category, box, area, score) in enumerate(columns, 1)
    ]
    return {**_frame(annotations), "annotations": found}


def _frame(annotations: Annotations) -> dict[str, Any]:
    categories = annotations.categories
    return {
        "images": [{"id": number} for number in annotations.image_id.tolist()],
        "categories": [{"id": id_, "name": name} for id_, name in zip(categories.ids, categories.names, strict=True)],
    }


def _category(annotations: Annotations, label: npt.NDArray[Any]) -> list[int]:
    found: list[int] = np.array(annotations.categories.ids)[label].tolist()
    return found


def _run(
    backend: Backend, truth: dict[str, Any], found: dict[str, Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The twelve numbers, and the precisions by IoU, recall, class, area and number of detections."""
    try:
        if backend == "faster-coco-eval":
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval
        elif backend == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            raise unknown("backend of COCO's metrics", backend, get_args(Backend))
    except ImportError as error:
        raise UserError(f"{backend} is not installed ({error}): `pip install 'lightning-kd[detection]'`.") from error
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on what it does
        for content in (truth, found):
            indexed: Any = COCO()
            indexed.dataset = content
            indexed.createIndex()
            sets.append(indexed)
        run: Any = COCOeval(*sets, iouType="bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return np.asarray(run.stats, dtype=np.float64), np.asarray(run.eval["precision"], dtype=np.float64)
