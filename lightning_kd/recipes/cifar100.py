"""Recipes for CIFAR-100: 240 epochs of SGD, batches of 64, learning rate divided by ten at 150, 180 and 210."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_kd.recipes.types import Ramp, Recipe, Stage, Term

REPDISTILLER = "HobbitLong/RepDistiller b84f547, the README's commands and train_student.py"
MDISTILLER = "megvii-research/mdistiller a08d46f, configs/cifar100"
REVIEWKD = "dvlab-research/ReviewKD cede6ea, the CIFAR-100 scripts"
ND = "WangYZ1608/Knowledge-Distillation-via-ND fc6f3f9, the CIFAR-100 scripts"
SIMKD = "DefangChen/SimKD 2b389c3, the scripts"

_INITIALISATION = (
    Stage("the loss alone initialises the student", 30, task=False, terms=True),
    Stage("the task loss alone trains it", None, task=True, terms=False),
)
_SIMKD_NOTE = (
    "SimKD's toolbox adds logit distillation with weight 1 to every feature method. Its temperature was not read "
    "there; 4 is RepDistiller's."
)


def _one(
    method: str, weight: float, source: str, *, task_weight: float = 1.0, note: str = "", **arguments: object
) -> Recipe:
    return Recipe(method, "cifar100", task_weight, (Term(method, weight, arguments),), source, note=note)


def _repdistiller() -> Iterator[Recipe]:
    """The same weights for all pairs."""
    yield _one("KD", 0.9, REPDISTILLER, task_weight=0.1, temperature=4.0)
    yield _one("FitNet", 100.0, REPDISTILLER)
    yield _one("AttentionTransfer", 1000.0, REPDISTILLER, p=2)
    yield _one("SP", 3000.0, REPDISTILLER)
    yield _one("CC", 0.02, REPDISTILLER, embedding_dim=128)
    yield _one("VID", 1.0, REPDISTILLER, initial_variance=5.0, eps=1e-5)
    yield _one("RKD", 1.0, REPDISTILLER, distance_weight=25.0, angle_weight=50.0)
    yield _one("PKT", 30000.0, REPDISTILLER)
    yield _one("NST", 50.0, REPDISTILLER)
    note = "The paraphraser's stage has 30 epochs there; see steps_per_batch. Learning rate 0.01 for resnets."
    yield _one("FactorTransfer", 200.0, REPDISTILLER, mode="repdistiller", note=note)
    crd: dict[str, Any] = {"negatives": 16384, "temperature": 0.07, "momentum": 0.5, "embedding_dim": 128}
    yield _one("CRD", 0.8, REPDISTILLER, **crd)
    terms = (Term("CRD", 0.8, crd), Term("KD", 1.0, {"temperature": 4.0}))
    yield Recipe("CRD+KD", "cifar100", 1.0, terms, REPDISTILLER)
    note = "The initialisation comes on top of the protocol's 240 epochs."
    for method, weight, more in (
        ("AB", 3e-3, " Weight 1 of a loss that is divided by 1000 and multiplied by 3."),
        ("FSP", 50.0, ""),
    ):
        alone = (Term(method, weight),)
        yield Recipe(method, "cifar100", 1.0, alone, REPDISTILLER, stages=_INITIALISATION, note=note + more)


def _mdistiller() -> Iterator[Recipe]:
    yield _one("OFD", 1e-3, MDISTILLER, note="The authors leave the teacher in train mode; here it stays in eval mode.")
    note = "The class follows RepDistiller's loss, which flattens otherwise than mdistiller's."
    yield _one("KDSVD", 1.0, MDISTILLER, k=1, note=note)


def _dkd() -> Iterator[Recipe]:
    betas = {
        None: 8.0,
        "resnet56->resnet20": 2.0,
        "resnet110->resnet32": 2.0,
        "wrn_40_2->wrn_16_2": 6.0,
        "wrn_40_2->wrn_40_1": 6.0,
        "vgg13->vgg8": 6.0,
        "vgg13->MobileNetV2": 6.0,
        "resnet32x4->resnet8x4": 8.0,
        "ResNet50->MobileNetV2": 8.0,
        "resnet32x4->ShuffleV1": 8.0,
        "resnet32x4->ShuffleV2": 8.0,
        "wrn_40_2->ShuffleV1": 8.0,
    }
    for pair, beta in betas.items():
        arguments = {"alpha": 1.0, "beta": beta, "temperature": 4.0}
        yield Recipe("DKD", "cifar100", 1.0, (Term("DKD", 1.0, arguments, Ramp(20)),), MDISTILLER, pair)


def _review_kd() -> Iterator[Recipe]:
    note = "No weights were published for VGG and MobileNetV2 students; 1.0 is mdistiller's default, with its ramp."
    yield Recipe("ReviewKD", "cifar100", 1.0, (Term("ReviewKD", 1.0, ramp=Ramp(20)),), MDISTILLER, note=note)
    note = "Published with batches of 128, learning rate 0.1 (0.02 for ShuffleNets) and Nesterov momentum."
    weights = {
        "wrn_40_2->wrn_16_2": 5.0,
        "wrn_40_2->wrn_40_1": 5.0,
        "wrn_40_2->ShuffleV1": 5.0,
        "resnet32x4->resnet8x4": 5.0,
        "resnet32x4->ShuffleV1": 5.0,
        "resnet32x4->ShuffleV2": 8.0,
        "resnet56->resnet20": 0.6,
        "resnet110->resnet32": 1.0,
    }
    for pair, weight in weights.items():
        terms = (Term("ReviewKD", weight, ramp=Ramp(20, first_epoch=0)),)
        yield Recipe("ReviewKD", "cifar100", 1.0, terms, REVIEWKD, pair, note=note)


def _later_logit_methods() -> Iterator[Recipe]:
    dist = "hunto/image_classification_sota 6f7a70a, the training code of hunto/DIST_KD 2418f18"
    yield _one("DIST", 2.0, dist, beta=1.0, gamma=1.0, temperature=4.0)
    lskd = "sunshangquan/logit-standardization-KD f6e5aa5"
    yield _one(
        "LogitStandardization", 9.0, lskd, task_weight=0.1, note="Base temperature 2; the authors tune both by pair."
    )
    ctkd = "zhengli97/CTKD 7d52522, the CIFAR-100 scripts"
    yield _one("CTKD", 0.9, ctkd, task_weight=0.1, start=1.0, span=20.0, ramp_epochs=10)
    note = (
        "Published with a second, strongly augmented view (see strong_view), learning rate 0.025 (0.01 for MobileNetV2 "
        "and ShuffleNets) and up to 960 epochs, so not under this protocol."
    )
    mlkd = "Jin-Ying/Multi-Level-Logit-Distillation 5ee473f"
    yield _one("MLKD", 0.9, mlkd, task_weight=0.1, note=note, temperatures=(2.0, 3.0, 4.0, 5.0, 6.0))
    note = "Published on images of 224 pixels, 300 epochs, label smoothing 0.1, so not under this protocol."
    terms = (Term("OFA", 1.0, {"eps": 1.0, "temperature": 1.0}),)
    yield Recipe("OFA", "cifar100", 1.0, terms, "Hao840/OFAKD f7bb896, README", "swin_tiny->resnet18", note=note)


def _simkd_toolbox() -> Iterator[Recipe]:
    note = "The student predicts with the teacher's classifier; see SimKD.deploy."
    yield _one("SimKD", 1.0, SIMKD, task_weight=0.0, factor=2, note=note)
    for method, weight in (("SRRL", 1.0), ("SemCKD", 400.0)):
        terms = (Term(method, weight), Term("KD", 1.0, {"temperature": 4.0}))
        yield Recipe(method, "cifar100", 1.0, terms, SIMKD, note=_SIMKD_NOTE)


def _nd() -> Iterator[Recipe]:
    """ND beside another method: ``(weight, ND's weight)``, for DKD ``(alpha, beta, ND's weight)``."""
    pairs = (
        "resnet56->resnet20",
        "resnet32x4->resnet8x4",
        "wrn_40_2->wrn_40_1",
        "ResNet50->MobileNetV2",
        "resnet32x4->ShuffleV1",
        "resnet32x4->ShuffleV2",
    )
    kd = ((1.0, 2.0), (3.5, 2.0), (1.0, 1.5), (3.0, 0.5), (2.5, 1.5), (4.0, 0.5))
    dist = ((2.0, 1.0), (1.5, 4.0), (2.5, 3.0), (7.0, 1.0), (2.5, 3.0), (3.0, 4.0))
    review = ((1.2, 1.0), (8.0, 1.0), (5.0, 4.0), (6.0, 2.0), (7.0, 1.0), (8.0, 1.5))
    dkd = ((2.5, 4.0, 3.5), (2.0, 8.0, 0.5), (1.0, 6.0, 1.0), (0.5, 8.0, 1.0), (0.5, 8.0, 4.0), (0.5, 6.0, 0.5))
    ramp = Ramp(20, first_epoch=0)
    note = "Published with learning rate 0.1 (0.02 for MobileNet and ShuffleNets) and Nesterov momentum on two GPUs."
    for name, method, arguments, values in (
        ("KD++", "KD", {"temperature": 4.0}, kd),
        ("DIST++", "DIST", {"temperature": 4.0}, dist),
        ("ReviewKD++", "ReviewKD", {}, review),
    ):
        for pair, (weight, nd) in zip(pairs, values, strict=True):
            terms = (Term(method, weight, arguments, ramp), Term("ND", nd))
            yield Recipe(name, "cifar100", 1.0, terms, ND, pair, note=note)
    for pair, (alpha, beta, nd) in zip(pairs, dkd, strict=True):
        arguments = {"alpha": alpha, "beta": beta, "temperature": 4.0}
        terms = (Term("DKD", 1.0, arguments, ramp), Term("ND", nd))
        yield Recipe("DKD++", "cifar100", 1.0, terms, ND, pair, note=note)


CIFAR100: tuple[Recipe, ...] = (
    *_repdistiller(),
    *_mdistiller(),
    *_dkd(),
    *_review_kd(),
    *_later_logit_methods(),
    *_simkd_toolbox(),
    *_nd(),
)
"""Every recipe for CIFAR-100."""
