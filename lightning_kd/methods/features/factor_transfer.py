"""Factor transfer: the student translates its feature into a paraphrase of the teacher's."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from lightning_kd.connectors.autoencoder import factor_encoder
from lightning_kd.connectors.maps import to_map
from lightning_kd.connectors.stack import Connector
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.features._autoencoder_stage import FrozenAutoencoder
from lightning_kd.methods.features._stages import check_same_channels, matched_maps

Mode = Literal["paper", "repdistiller"]


def factor_transfer_loss(student_factor: Tensor, teacher_factor: Tensor, p: float = 1, mode: Mode = "paper") -> Tensor:
    r"""Distance between normalised factors.

    .. math:: \mathrm{mean}\,\Big|\frac{f_s}{\|f_s\|_2} - \frac{f_t}{\|f_t\|_2}\Big|^p

    In the paper :math:`f` is the whole factor, flattened; RepDistiller, and with it the published CIFAR-100 table, uses
    its spatial attention map, the mean of squares over the channels.

    Args:
        student_factor: ``(B, K, H_s, W_s)``.
        teacher_factor: ``(B, K, H_t, W_t)``; no gradient flows into it. The larger map is average-pooled to the
            smaller.
        p: exponent.
        mode: ``"paper"`` or ``"repdistiller"``.

    Returns:
        Scalar: mean over all elements, at least float32.

    Raises:
        ValueError: if the numbers of channels differ, or ``mode`` is unknown.

    Reference: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
    arXiv:1802.04977.
    """
    _check_mode(mode)
    [(student, teacher)] = matched_maps([student_factor], [teacher_factor])
    check_same_channels(student, teacher, "factor transfer")
    if mode == "repdistiller":
        student, teacher = (factor.square().mean(1) for factor in (student, teacher))
    student, teacher = (F.normalize(factor.flatten(1), dim=1) for factor in (student, teacher))
    difference = (student - teacher).abs()
    return difference.mean() if p == 1 else difference.pow(p).mean()


def _check_mode(mode: str) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {get_args(Mode)}, got {mode!r}")


class FactorTransfer(DistillationMethod):
    """:func:`factor_transfer_loss` between the translated last stage and the teacher's paraphrase.

    The paraphraser, an autoencoder, is trained first, on the teacher's features alone, and frozen afterwards. Its stage
    is one pass over the training set with Adam; the authors take several epochs of SGD (30 in the usual CIFAR-100
    comparison). Several passes come from a larger ``steps_per_batch``.

    Args:
        rate: the factor's channels as a share of the teacher's.
        p: exponent of the distance.
        mode: ``"paper"`` or ``"repdistiller"``.
        learning_rate: Adam's learning rate in the paraphraser's stage.
        steps_per_batch: the paraphraser's steps for every batch of that stage.
        layers: which layers to compare; by default the last stage.
        weight: factor in the total loss; 1000 is a public ImageNet recipe for ``mode="paper"``, 200 the CIFAR-100 value
            for ``mode="repdistiller"``.

    Raises:
        ValueError: if the rate or the number of steps is not positive, or ``mode`` is unknown.
    """

    citation = Citation(
        "Paraphrasing Complex Network: Network Compression via Factor Transfer",
        "Kim et al.",
        "NeurIPS",
        2018,
        "1802.04977",
    )
    aliases = ("FT", "FTLoss")
    has_setup_pass = True
    needs_teacher_output = False

    paraphraser: FrozenAutoencoder
    translator: Connector

    def __init__(
        self,
        rate: float = 0.5,
        p: float = 1,
        mode: Mode = "paper",
        learning_rate: float = 1e-3,
        steps_per_batch: int = 1,
        layers: Layers = "auto",
        weight: Weight = 1000.0,
    ) -> None:
        super().__init__(weight, layers)
        _check_mode(mode)
        if not rate > 0 or steps_per_batch < 1:
            raise ValueError(f"rate and steps_per_batch must be positive, got {rate} and {steps_per_batch}")
        self.rate = rate
        self.p = p
        self.mode: Mode = mode
        self.learning_rate = learning_rate
        self.steps_per_batch = steps_per_batch

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create the paraphraser and the translator.

        Raises:
            ValueError: if more than one pair of layers was given.
        """
        if len(self.pairs) != 1:
            raise ValueError(f"factor transfer compares one pair of layers, got {len(self.pairs)}: {self.pairs}")
        student, teacher = self._maps(context.exchange)
        factor_channels = max(int(teacher.shape[1] * self.rate), 1)
        self.paraphraser = FrozenAutoencoder(teacher.shape[1], factor_channels, self.learning_rate)
        self.translator = factor_encoder(student.shape[1], factor_channels, norm=True)

    def observe(self, exchange: Exchange) -> None:
        """Train the paraphraser on one batch."""
        teacher = to_map(self.teacher_features(exchange)[0])
        for _ in range(self.steps_per_batch):
            self.paraphraser.learn(teacher)

    def finish_setup(self) -> None:
        """End the paraphraser's stage."""
        self.paraphraser.finish()

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`factor_transfer_loss`."""
        student, teacher = self._maps(exchange)
        return factor_transfer_loss(self.translator(student), self.paraphraser(teacher), self.p, self.mode)

    def _maps(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        return to_map(self.student_features(exchange)[0]), to_map(self.teacher_features(exchange)[0])
