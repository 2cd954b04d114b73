"""OFA-KD: every stage of the student predicts the classes through a branch, so that architectures need not match."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, check_labels, check_same_logits, check_temperature
from lightning_kd.methods.logits._classes import check_matrix
from lightning_kd.methods.logits._ofa_branches import make_branch
from lightning_kd.schedules import Scheduled, value_at


def ofa_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    eps: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    r"""Loss with target enhancement of OFA-KD.

    .. math:: -\sum_c q_c \log \mathrm{softmax}(z^s/T)_c, \qquad q = (p^t + m)^{\epsilon} - m

    where :math:`m` is the one-hot label. ``eps=1`` is the cross-entropy with the teacher's soft label; a larger one
    lifts the label and damps the others. The power of the other classes and the subtracted :math:`m` (the hard label is
    a term of its own) follow the authors' code; the paper writes the power for the target class alone.

    Args:
        student_logits: logits of a student stage or of the student, ``(B, C)``.
        teacher_logits: final teacher logits, ``(B, C)``; no gradient flows into them.
        target: class indices, ``(B,)``; with mixed labels the dominant class.
        eps: exponent, best between 1.1 and 1.4; weaker teachers want more.
        temperature: softmax temperature ``T``; the loss carries no ``T**2``.

    Returns:
        Scalar: mean over the batch, at least float32. A cross-entropy: a perfect student does not reach zero.

    Raises:
        ValueError: if shapes differ, or ``eps`` or the temperature is not positive.

    Reference: Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
    NeurIPS 2023, arXiv:2310.19444.
    """
    check_matrix(student_logits)
    check_same_logits(student_logits, teacher_logits)
    check_labels(student_logits, target)
    check_temperature(temperature)
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}")
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=-1)
    teacher = F.softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=-1)
    # F.one_hot would look at the values first, for which a GPU has to be waited for
    label = torch.zeros_like(student).scatter(-1, target[:, None], 1.0)
    soft = (teacher + label).pow(eps) - label
    return -(soft * student).sum(-1).mean()


class OFA(DistillationMethod):
    """:func:`ofa_loss` of the student's logits and, through branches, of its stages.

    Convolutional stages get separable convolutions down to one vector; token stages (ViT, Mixer, ResMLP, and the
    channels-last maps of Swin) get transformer blocks. The teacher gives only its logits, so it may be anything. The
    branches are thrown away after training. The authors clip gradients at 5 for token students.

    Args:
        eps: exponent of the student's logits; 1.0 on CIFAR-100, 1.5 for DeiT-T → ResNet-18 on ImageNet.
        branch_eps: exponent of the branches; ``eps`` by default.
        temperature: softmax temperature.
        logit_weight: factor of the logits' term.
        branch_weight: factor of every branch.
        layers: stages of the student, paired with any stages of the teacher; ``"auto"`` takes the last four.
        weight: factor in the total loss, beside ``task_weight=1``.
    """

    citation = Citation(
        "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
        "Hao et al.",
        "NeurIPS",
        2023,
        "2310.19444",
    )
    aliases = ("OFAKD", "OFA-KD", "OneForAll")
    needs_target = True

    def __init__(
        self,
        eps: float = 1.0,
        branch_eps: float | None = None,
        temperature: Scheduled = 1.0,
        logit_weight: float = 1.0,
        branch_weight: float = 1.0,
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        check_temperature(temperature)
        self.eps, self.branch_eps = eps, eps if branch_eps is None else branch_eps
        if self.eps <= 0 or self.branch_eps <= 0:
            raise ValueError(f"eps and branch_eps must be positive, got {eps} and {branch_eps}")
        self.temperature, self.logit_weight, self.branch_weight = temperature, logit_weight, branch_weight
        self.branches = nn.ModuleList()

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last four stages."""
        return pairs[-4:]

    def build(self, context: BuildContext) -> None:
        """Create one branch a stage, as wide as the wider of the two networks' last stages."""
        exchange = context.exchange
        stages = self.student_features(exchange)
        teacher_width = stage_width(self.teacher_features(exchange)[-1], self.pairs[-1][1])
        widths = [stage_width(stage, student_tap) for stage, (student_tap, _) in zip(stages, self.pairs, strict=True)]
        width = max(widths[-1], teacher_width)
        num_classes = exchange.student.logits.shape[-1]
        self.branches = nn.ModuleList(
            make_branch(stage, len(stages) - 1 - position, width, num_classes, channels_last=":nhwc" in student_tap)
            for position, (stage, (student_tap, _)) in enumerate(zip(stages, self.pairs, strict=True))
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`ofa_loss`."""
        teacher, target = exchange.teacher.logits, exchange.labels
        loss = self.logit_weight * ofa_loss(
            exchange.student.logits, teacher, target, self.eps, value_at(self.temperature, exchange.progress)
        )
        for branch, stage in zip(self.branches, self.student_features(exchange), strict=True):
            term = ofa_loss(
                branch(stage), teacher, target, self.branch_eps, value_at(self.temperature, exchange.progress)
            )
            loss = loss + self.branch_weight * term
        return loss


def stage_width(feature: Tensor, tap: str) -> int:
    """Channels of a stage: the second dimension of a map, the last of tokens and embeddings."""
    if feature.dim() not in (2, 3, 4):
        raise ValueError(
            f"OFA takes maps (B, C, H, W), tokens (B, N, D) or embeddings (B, D), but the layer {tap!r} gives shape "
            f"{tuple(feature.shape)}; choose other layers with `layers=`"
        )
    return feature.shape[1] if feature.dim() == 4 else feature.shape[-1]
