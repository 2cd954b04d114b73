"""Follow the teacher as far as it believes in the label."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks.fusion.step import FusionStep
from lightning_kd.callbacks.fusion.strategy import FusionStrategy, check_share
from lightning_kd.methods.checks import check_temperature


class TeacherConfidence(FusionStrategy):
    r"""The teacher's probability of the label (ADA) as a fusion ratio.

    .. math:: \alpha_i = \mathrm{low} + (\mathrm{high} - \mathrm{low})\, p^t_i(y_i)

    with :math:`p^t = \mathrm{softmax}(z^t/T)`: the label alone decides where the teacher contradicts it. The papers
    that compare with this baseline do not print its formula; this one is ours.

    Args:
        low: ratio for a teacher that rules the label out.
        high: ratio for a teacher that is certain of the label.
        temperature: softmax temperature ``T``.

    Raises:
        ValueError: if a ratio is not between 0 and 1, or the temperature is not positive.

    Reference: in the spirit of Lukasik et al., "Teacher's pet: understanding and mitigating biases in distillation",
    2021, arXiv:2106.10494, where the mixture depends on how well the teacher does.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0, temperature: float = 1.0) -> None:
        check_share("low", low)
        check_share("high", high)
        check_temperature(temperature)
        self.low, self.high, self.temperature = low, high, temperature

    @override
    def alpha(self, step: FusionStep) -> Tensor:
        """The ratios, ``(B,)``."""
        probabilities = F.softmax(step.teacher_logits / self.temperature, dim=-1)
        of_label = probabilities.gather(1, step.labels[:, None]).squeeze(1)
        return self.low + (self.high - self.low) * of_label
