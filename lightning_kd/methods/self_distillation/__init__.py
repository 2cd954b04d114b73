"""Methods in which a network learns from itself: from its past, or from its previous generation."""

from lightning_kd.methods.self_distillation.born_again import BornAgain
from lightning_kd.methods.self_distillation.generations import (
    Generation,
    Validation,
    self_distil,
    train_born_again,
)
from lightning_kd.methods.self_distillation.guided import (
    GuidedSelfDistillation,
    guided_self_distillation_loss,
    optimal_label_weight,
)
from lightning_kd.methods.self_distillation.pskd import PSKD, progressive_self_distillation_loss

__all__ = [
    "PSKD",
    "BornAgain",
    "Generation",
    "GuidedSelfDistillation",
    "Validation",
    "guided_self_distillation_loss",
    "optimal_label_weight",
    "progressive_self_distillation_loss",
    "self_distil",
    "train_born_again",
]
