"""Recipes for ImageNet: 100 epochs of SGD, learning rate divided by ten at 30, 60 and 90."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_kd.recipes.types import Ramp, Recipe, Term

MDISTILLER = "megvii-research/mdistiller a08d46f, configs/imagenet"
ND = "WangYZ1608/Knowledge-Distillation-via-ND fc6f3f9, the ImageNet scripts"

R34_R18 = "ResNet34->ResNet18"
R50_MV1 = "ResNet50->MobileNetV1"


def _one(
    method: str,
    weight: float,
    source: str,
    *,
    task_weight: float = 1.0,
    pair: str | None = None,
    note: str = "",
    **arguments: object,
) -> Recipe:
    return Recipe(method, "imagenet", task_weight, (Term(method, weight, arguments),), source, pair, note=note)


def _mdistiller() -> Iterator[Recipe]:
    # the warm-up of one epoch in these configurations is none: its factor is 1 from the first epoch on
    yield _one("KD", 0.5, MDISTILLER, task_weight=0.5, temperature=1.0)
    yield _one("DKD", 1.0, MDISTILLER, pair=R34_R18, alpha=1.0, beta=0.5, temperature=1.0)
    yield _one("DKD", 1.0, MDISTILLER, pair=R50_MV1, alpha=1.0, beta=2.0, temperature=1.0)
    yield _one("AttentionTransfer", 1000.0, MDISTILLER, p=2)
    yield _one("CRD", 0.8, MDISTILLER, negatives=16384, temperature=0.07, momentum=0.5, embedding_dim=128)
    yield _one("ReviewKD", 1.0, MDISTILLER, pair=R34_R18)
    yield _one("ReviewKD", 8.0, MDISTILLER, pair=R50_MV1)
    note = "The authors leave the teacher in train mode; here it stays in eval mode."
    yield _one("OFD", 1e-4, MDISTILLER, pair=R50_MV1, note=note)


def _others() -> Iterator[Recipe]:
    dist = "hunto/image_classification_sota 6f7a70a, the training code of hunto/DIST_KD 2418f18"
    note = "Published with batches of 256, Nesterov momentum and no weight decay on biases and batch norm."
    yield _one("DIST", 2.0, dist, beta=1.0, gamma=1.0, temperature=1.0, note=note)
    lskd = "sunshangquan/logit-standardization-KD f6e5aa5"
    yield _one("LogitStandardization", 9.0, lskd, note="Base temperature 2.")
    ctkd = "zhengli97/CTKD 7d52522, the ImageNet script"
    yield _one("CTKD", 1.0, ctkd, start=1.0, span=20.0, ramp_epochs=5, note="Published with 120 epochs.")
    torchdistill = "torchdistill 1.1.5, the official ILSVRC2012 configuration"
    yield _one("SRD", 1.0, torchdistill, pair=R34_R18, exponent=4.0, feature_weight=2.0, logit_weight=1.0)
    note = "Published with 120 epochs. The temperature of the logit term was not read there; 4 is RepDistiller's."
    terms = (Term("SemCKD", 50.0), Term("KD", 1.0, {"temperature": 4.0}))
    yield Recipe("SemCKD", "imagenet", 1.0, terms, "DefangChen/SimKD 2b389c3, the scripts", note=note)
    ofa = "Hao840/OFAKD f7bb896, README"
    yield _one("OFA", 1.0, ofa, pair="deit_tiny->resnet18", eps=1.5, temperature=1.0)


def _nd() -> Iterator[Recipe]:
    """ND beside another method: ``(weight, ND's weight)``, for DKD ``(alpha, beta, ND's weight)``."""
    pairs = (R34_R18, "ResNet50->ResNet18", "ResNet101->ResNet18", "ResNet152->ResNet18", R50_MV1)
    kd = ((2.5, 1.0), (4.0, 1.0), (3.5, 4.0), (4.0, 2.0), (4.0, 1.0))
    review = ((1.0, 3.0), (3.0, 2.0), (3.0, 1.0), (3.0, 1.0), (8.0, 4.0))
    dkd = ((0.8, 0.5, 1.0), (0.6, 0.5, 2.0), (0.8, 0.5, 1.0), (1.0, 1.0, 1.0), (0.8, 1.0, 1.0))
    ramp = Ramp(5, first_epoch=0)
    for pair, (weight, nd) in zip(pairs, kd, strict=True):
        terms = (Term("KD", weight, {"temperature": 4.0}, ramp), Term("ND", nd))
        yield Recipe("KD++", "imagenet", 1.0, terms, ND, pair)
    for pair, (weight, nd) in zip(pairs, review, strict=True):
        yield Recipe("ReviewKD++", "imagenet", 1.0, (Term("ReviewKD", weight, ramp=ramp), Term("ND", nd)), ND, pair)
    for pair, (alpha, beta, nd) in zip(pairs, dkd, strict=True):
        arguments = {"alpha": alpha, "beta": beta, "temperature": 4.0}
        yield Recipe("DKD++", "imagenet", 1.0, (Term("DKD", 1.0, arguments, ramp), Term("ND", nd)), ND, pair)


IMAGENET: tuple[Recipe, ...] = (*_mdistiller(), *_others(), *_nd())
"""Every recipe for ImageNet."""
