"""MI-α: raise a lower bound on the mutual information between the embeddings of student and teacher."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_kd.connectors.maps import like_parameters
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32, full_precision
from lightning_kd.methods.relations._embeddings import embedding


def mi_alpha_loss(scores: Tensor, log_baseline: Tensor, alpha: float = 0.5) -> Tensor:
    r"""Negative of the interpolated lower bound :math:`I_\alpha` on the mutual information.

    With scores :math:`f_{ij}` of student ``i`` against teacher ``j`` and a learned baseline :math:`a_i > 0`,

    .. math::
        I_\alpha = 1 + \mathrm{mean}_{i\ne j}\,(f_{ii} - \log m_{ij})
                   - \mathrm{mean}_{i\ne j}\,\exp(f_{ij} - \log m_{ii}), \qquad
        m_{ij} = \alpha\,a_i + (1-\alpha)\,\mathrm{mean}_{k\ne j} e^{f_{ik}}

    ``alpha=0`` is the contrastive bound (InfoNCE), at most ``log(B - 1)`` and of low variance; ``alpha=1`` is TUBA,
    unbiased but with an exponential that nothing bounds. For ``alpha < 1`` each exponential is at most
    ``(B - 1) / (1 - alpha)``, whatever the scores; for ``alpha=1`` it overflows once a score exceeds the baseline by
    88 in float32. The two ends are computed without the other part, so a critic or
    baseline that does not count receives no gradient, not a NaN.

    Args:
        scores: critic scores, ``(B, B)`` with ``B >= 2``; rows are students.
        log_baseline: logarithm of the baseline, ``(B,)``.
        alpha: interpolation in ``[0, 1]``.

    Returns:
        Scalar, at least float32; the gradient flows into the scores of both sides, whose critics are trained by it.

    Raises:
        ValueError: if the shapes do not fit, ``alpha`` is outside ``[0, 1]`` or there is no second sample to contrast.

    Reference: He et al., "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing",
    SustaiNLP 2021, arXiv:2109.11105; the bound is from Poole et al., "On Variational Bounds of Mutual Information",
    ICML 2019, arXiv:1905.06922.
    """
    _check_alpha(alpha)
    batch = scores.shape[0]
    if scores.shape != (batch, batch) or log_baseline.shape != (batch,):
        raise ValueError(
            f"expected scores (B, B) and a baseline (B,), got shapes {tuple(scores.shape)} and "
            f"{tuple(log_baseline.shape)}"
        )
    if batch < 2:
        raise ValueError(
            "the MI-alpha bound contrasts samples of a batch and needs at least two, got one; set `drop_last=True` in "
            "the training dataloader or choose a batch size that leaves no single sample over"
        )
    scores, log_baseline = at_least_float32(scores), at_least_float32(log_baseline)
    positive = torch.eye(batch, dtype=torch.bool, device=scores.device)
    log_m = _log_interpolate(scores, log_baseline, alpha)
    joint = scores.diagonal().mean() - (log_m.sum() - log_m.diagonal().sum()) / (batch * (batch - 1))
    marginal = (scores - log_m.diagonal().unsqueeze(1)).masked_fill(positive, -math.inf)
    log_mean = marginal.flatten().logsumexp(0) - math.log(batch * (batch - 1))
    return log_mean.exp() - joint - 1


def _log_interpolate(scores: Tensor, log_baseline: Tensor, alpha: float) -> Tensor:
    baseline = log_baseline.unsqueeze(1)
    if alpha == 1:
        return baseline.expand_as(scores)
    contrast = _leave_one_out(scores) - math.log(scores.shape[1] - 1)
    if alpha == 0:
        return contrast
    return torch.logaddexp(baseline + math.log(alpha), contrast + math.log1p(-alpha))


def _leave_one_out(scores: Tensor) -> Tensor:
    """Log-sum-exp of each row without one entry, for every entry, ``(B, B)``.

    An entry other than the largest has at most half of the row's sum, so that subtracting it is safe. For the largest
    it would cancel: there the others are summed. A masked ``(B, B, B)`` tensor would be large.
    """
    largest, at = scores.max(1, keepdim=True)
    rest = scores.scatter(1, at, -math.inf).logsumexp(1, keepdim=True)
    whole = torch.logaddexp(largest, rest)
    share = (scores - whole).exp().scatter(1, at, 0.0)
    return (whole + torch.log1p(-share)).scatter(1, at, rest)


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")


class MIAlpha(DistillationMethod):
    """:func:`mi_alpha_loss` between penultimate embeddings, scored by trained critics.

    The paper distils transformers with small transformers as critics and tunes ``alpha`` over 0, .1, .5, .7, .9 and 1.
    Here the critics are two-layer perceptrons on pooled features, which fit any backbone; the default ``alpha`` is
    ours.

    Args:
        alpha: interpolation between the contrastive (0) and the unnormalised (1) bound.
        embedding_dim: width of the critics' outputs, whose dot product is the score.
        hidden_dim: width of the critics' hidden layer.
        layers: which layers to compare; maps and tokens are averaged.
        weight: factor in the total loss.
    """

    citation = Citation(
        "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing",
        "He et al.",
        "SustaiNLP",
        2021,
        "2109.11105",
    )
    aliases = ("MI", "Distiller")
    needs_teacher_output = False

    def __init__(
        self,
        alpha: float = 0.5,
        embedding_dim: int = 64,
        hidden_dim: int = 512,
        layers: Layers = "penultimate",
        weight: Weight = 1.0,
    ) -> None:
        super().__init__(weight, layers)
        _check_alpha(alpha)
        self.alpha, self.embedding_dim, self.hidden_dim = alpha, embedding_dim, hidden_dim
        self.critics = nn.ModuleList()

    def build(self, context: BuildContext) -> None:
        """Create the critics and the baseline of each pair of layers."""
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.critics = nn.ModuleList(
            _Critic(
                embedding(student).shape[1],
                embedding(teacher).shape[1],
                self.hidden_dim,
                self.embedding_dim,
                with_baseline=self.alpha > 0,
            )
            for student, teacher in pairs
        )

    def forward(self, exchange: Exchange) -> Tensor:
        """See :func:`mi_alpha_loss`; several pairs of layers are summed."""
        terms = []
        for student, teacher, critic in zip(
            self.student_features(exchange), self.teacher_features(exchange), self.critics, strict=True
        ):
            scores, log_baseline = critic(embedding(student), embedding(teacher.detach()))
            terms.append(mi_alpha_loss(scores, log_baseline, self.alpha))
        return torch.stack(terms).sum()


class _Critic(nn.Module):
    """Separable critic and baseline: embeddings to scores ``(B, B)`` and log-baselines ``(B,)``."""

    def __init__(
        self, student_dim: int, teacher_dim: int, hidden_dim: int, embedding_dim: int, *, with_baseline: bool
    ) -> None:
        super().__init__()
        self.student = _perceptron(student_dim, hidden_dim, embedding_dim)
        self.teacher = _perceptron(teacher_dim, hidden_dim, embedding_dim)
        # parameters that never receive a gradient would break distributed training
        self.baseline = _perceptron(student_dim, hidden_dim, 1) if with_baseline else None

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        student, teacher = like_parameters(student, self), like_parameters(teacher, self)
        left, right = at_least_float32(self.student(student)), at_least_float32(self.teacher(teacher))
        baseline = left.new_zeros(left.shape[0]) if self.baseline is None else self.baseline(student).squeeze(1)
        with full_precision(left):
            return left @ right.mT, baseline


def _perceptron(features: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
