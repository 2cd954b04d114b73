"""Knowledge translation and adaptation, with affinity distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_kd.connectors.maps import to_map
from lightning_kd.connectors.stack import Connector, conv_norm
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._autoencoder_stage import FrozenAutoencoder
from lightning_kd.methods.features._stages import check_same_channels, matched_maps
from lightning_kd.methods.features.factor_transfer import factor_transfer_loss


def affinity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    r"""Distance between the affinities of the positions, channel by channel.

    With :math:`u_c, v_c` the unit-length maps of channel :math:`c`,

    .. math:: \mathbb E_b \sum_c \tfrac1{HW} \|u_c u_c^\top - v_c v_c^\top\|_F
        = \mathbb E_b \sum_c \tfrac1{HW} \|u_c - v_c\| \|u_c + v_c\| / \sqrt2

    The right-hand side is what is computed: the ``(HW, HW)`` matrices never exist.

    Args:
        student_features: ``(B, C, H_s, W_s)`` or tokens ``(B, N, D)``.
        teacher_features: the same number of channels; no gradient flows into it. The larger map is average-pooled to
            the smaller.

    Returns:
        Scalar: sum over channels, mean over the batch, at least float32.

    Raises:
        ValueError: if the numbers of channels differ.

    Reference: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", CVPR 2019, arXiv:1903.04688.
    """
    [(student, teacher)] = matched_maps([student_features], [teacher_features])
    check_same_channels(student, teacher, "affinity distillation")
    student, teacher = (F.normalize(feature.flatten(2), dim=2) for feature in (student, teacher))
    apart, together = (torch.linalg.vector_norm(feature, dim=2) for feature in (student - teacher, student + teacher))
    distances: Tensor = (apart * together).sum(1) / (2**0.5 * student.shape[2])
    return distances.mean()


class KTA(DistillationMethod):
    """Adaptation to the teacher's condensed feature, plus :func:`affinity_loss`.

    An autoencoder learns to condense the teacher's feature first, on the teacher alone, and is frozen afterwards; its
    stage is one pass over the training set with Adam. Two adapters bring the student's feature to the condensed one:
    3×3 convolution, batch norm and ReLU for the adaptation term, which is
    :func:`~lightning_kd.methods.features.factor_transfer.factor_transfer_loss`, and a 3×3 convolution for the affinity
    term.

    Losses, norms and weights are those of the public re-implementation in torchdistill, whose affinities are taken
    channel by channel. They were checked against that code and not against the paper's equations.

    Args:
        rate: the condensed feature's channels as a share of the teacher's.
        adaptation_weight: weight of the adaptation term.
        affinity_weight: weight of the affinity term.
        sparsity: weight of the mean absolute condensed feature in the autoencoder's stage.
        learning_rate: Adam's learning rate in that stage.
        layers: which layers to compare; by default the last stage.
        weight: factor in the total loss.

    Raises:
        ValueError: if the rate is not positive.
    """

    citation = Citation(
        "Knowledge Adaptation for Efficient Semantic Segmentation", "He et al.", "CVPR", 2019, "1903.04688"
    )
    aliases = ("KTAAD", "KTALoss", "AffinityLoss")
    has_setup_pass = True
    needs_teacher_output = False

    autoencoder: FrozenAutoencoder
    feature_adapter: Connector
    affinity_adapter: Connector

    def __init__(
        self,
        rate: float = 0.5,
        adaptation_weight: float = 50.0,
        affinity_weight: float = 1.0,
        sparsity: float = 1e-7,
        learning_rate: float = 1e-3,
        layers: Layers = "auto",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate}")
        self.rate = rate
        self.adaptation_weight = adaptation_weight
        self.affinity_weight = affinity_weight
        self.sparsity = sparsity
        self.learning_rate = learning_rate

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create the autoencoder and the adapters.

        Raises:
            ValueError: if more than one pair of layers was given.
        """
        if len(self.pairs) != 1:
            raise ValueError(f"KTA compares one pair of layers, got {len(self.pairs)}: {self.pairs}")
        student, teacher = self._maps(context.exchange)
        condensed = max(int(teacher.shape[1] * self.rate), 1)
        self.autoencoder = FrozenAutoencoder(teacher.shape[1], condensed, self.learning_rate, self.sparsity)
        self.feature_adapter = conv_norm(student.shape[1], condensed, kernel=3, relu=True)
        self.affinity_adapter = Connector(nn.Conv2d(student.shape[1], condensed, 3, padding=1))

    def observe(self, exchange: Exchange) -> None:
        """Train the autoencoder on one batch."""
        self.autoencoder.learn(to_map(self.teacher_features(exchange)[0]))

    def finish_setup(self) -> None:
        """End the autoencoder's stage."""
        self.autoencoder.finish()

    def forward(self, exchange: Exchange) -> Tensor:
        """Weighted sum of the adaptation and the affinity term."""
        student, teacher = self._maps(exchange)
        condensed = self.autoencoder(teacher)
        adaptation = factor_transfer_loss(self.feature_adapter(student), condensed)
        affinity = affinity_loss(self.affinity_adapter(student), condensed)
        return self.adaptation_weight * adaptation + self.affinity_weight * affinity

    def _maps(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        return to_map(self.student_features(exchange)[0]), to_map(self.teacher_features(exchange)[0])
