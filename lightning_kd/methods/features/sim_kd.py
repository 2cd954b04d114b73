"""SimKD: the student learns the teacher's last feature and predicts with the teacher's classifier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightning_kd.connectors.maps import pool_to_smaller, pooled, to_map
from lightning_kd.connectors.stack import bottleneck
from lightning_kd.engine.exchange import BuildContext, Exchange
from lightning_kd.engine.network import layers_of
from lightning_kd.engine.taps import Tap
from lightning_kd.methods.base import Citation, DistillationMethod, Layers, Weight
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.features._teacher_classifier import ReusedClassifier
from lightning_kd.methods.features.fitnet import hint_loss

# The average must give the logits, relative to the largest; half precision and fused kernels leave this much room.
_TOLERANCE = 0.05


class SimKD(DistillationMethod):
    """:func:`~lightning_kd.methods.features.fitnet.hint_loss` on the last feature, through a bottleneck projector.

    The paper trains with this loss alone: give ``task_weight=0``. The student's own classifier then learns nothing;
    what is deployed, evaluated and counted is the student's backbone, the projector and the teacher's classifier:

    .. code-block:: python

        method = SimKD()
        trainer.fit(DistillationModule(student, teacher, method=method, task_weight=0.0), datamodule=data)
        network = method.deploy(module.student)  # evaluate and save this one

    Metrics that the student logs during the fit come from its own classifier and mean nothing.

    Args:
        factor: the projector's hidden width is the teacher's width divided by ``factor``; 2 is the paper's default.
        layers: which layers to compare. ``"auto"`` takes the student's last stage and the teacher's last map before its
            pooled features, and refuses teachers whose classifier does not read the plain average of that (ConvNeXt,
            ViT); use ``"penultimate"`` for those.
        weight: factor in the total loss.

    Reference: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022, arXiv:2203.14001.
    """

    citation = Citation(
        "Knowledge Distillation with the Reused Teacher Classifier", "Chen et al.", "CVPR", 2022, "2203.14001"
    )
    aliases = ("ReusedTeacherClassifier",)
    reads_last_map = True
    needs_teacher_output = False

    projector: nn.Module
    classifier: ReusedClassifier

    def __init__(self, factor: int = 2, layers: Layers = "auto", weight: Weight = 1.0) -> None:
        super().__init__(weight, layers)
        if factor < 1:
            raise ValueError(f"factor must be a positive integer, got {factor}")
        self.factor = factor

    def select_stages(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The last stage."""
        return pairs[-1:]

    def build(self, context: BuildContext) -> None:
        """Create the projector and copy the teacher's classifier.

        Raises:
            ValueError: if more than one pair of layers was given, or the teacher's classifier does not read the average
                of the tapped feature.
        """
        student, teacher = self._maps(context.exchange)
        logits = context.exchange.teacher.logits
        channels = teacher.shape[1]
        self.classifier = ReusedClassifier(context.teachers[0], channels, logits.shape[-1]).to(teacher.device)
        error = (self.classifier(pooled(teacher)) - at_least_float32(logits)).abs().max()
        if error > _TOLERANCE * logits.abs().max():
            raise ValueError(
                f"the teacher's classifier does not read the average of the tapped layer {self.pairs[0][1]!r} (other "
                'layers stand in between), so the student could not predict with it; use layers="penultimate"'
            )
        self.projector = bottleneck(student.shape[1], max(channels // self.factor, 1), channels, ends_in_relu=True)

    def forward(self, exchange: Exchange) -> Tensor:
        """Mean squared error of the projected feature; the larger map is average-pooled to the smaller."""
        student, teacher = pool_to_smaller(*self._maps(exchange))
        return hint_loss(self.projector(student), teacher)

    def deploy(self, network: nn.Module) -> SimKDStudent:
        """The network to evaluate and to keep: it predicts with the teacher's classifier.

        Args:
            network: the trained student's network, the one whose layers were tapped.

        Returns:
            A module that is called like ``network`` and returns logits. It shares the weights of ``network`` and of
            this method, so it can also be evaluated while the training goes on.
        """
        return SimKDStudent(network, self.pairs[0][0], self.projector, self.classifier)

    def _maps(self, exchange: Exchange) -> tuple[Tensor, Tensor]:
        if len(self.pairs) != 1:
            raise ValueError(f"SimKD compares one pair of layers, the last, got {len(self.pairs)}: {self.pairs}")
        return _as_map(self.student_features(exchange)[0]), _as_map(self.teacher_features(exchange)[0])


class SimKDStudent(nn.Module):
    """A student's backbone, SimKD's projector and the teacher's classifier.

    Args:
        network: the student's network; its own classifier is run and ignored.
        tap: the layer whose output is projected.
        projector: SimKD's trained projector.
        classifier: the teacher's classifier.
    """

    def __init__(self, network: nn.Module, tap: str, projector: nn.Module, classifier: ReusedClassifier) -> None:
        super().__init__()
        self.network = network
        self.projector = projector
        self.classifier = classifier
        self.tap = tap

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The logits, ``(B, K)``, for the inputs of the student's network."""
        tap = Tap.parse(self.tap)
        captured: list[Tensor] = []

        def capture(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            captured.append(tap.read(inputs, output))

        handle = layers_of(self.network)[tap.layer].register_forward_hook(capture)
        try:
            self.network(*args, **kwargs)
        finally:
            handle.remove()
        logits: Tensor = self.classifier(pooled(self.projector(_as_map(captured[-1]))))
        return logits


def _as_map(feature: Tensor) -> Tensor:
    return feature[:, :, None, None] if feature.dim() == 2 else to_map(feature)
