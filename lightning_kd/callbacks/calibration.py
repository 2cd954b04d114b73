"""Watch how well the student's confidence matches its accuracy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from lightning_kd.callbacks._calibration_metric import CalibrationMetric, reliability
from lightning_kd.callbacks._observation import ValidationMonitor, class_indices
from lightning_kd.engine.exchange import LogitsOf, View
from lightning_kd.engine.taps import Call
from lightning_kd.engine.target import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CalibrationMonitor(ValidationMonitor):
    """Logs calibration at the end of every validation epoch, and a reliability diagram to loggers that take figures.

    * ``calibration/ece``: expected calibration error, bins of equal width.
    * ``calibration/adaptive_ece``: the same over bins of equal mass.
    * ``calibration/nll``: negative log-likelihood.
    * ``calibration/brier``: Brier score, the squared error of the probabilities summed over classes.

    It reads the logits of the forward pass that ``validation_step`` makes anyway, and works without distillation too.

    Args:
        bins: number of bins.
        diagram_every_n_epochs: how often a diagram is drawn; 0 for never. Needs matplotlib.
        prefix: what stands before the slash.
        network: dotted name of the student's network, where it cannot be found.
        target: where the labels are in the batch.
        logits: callable from the network's output to its logits.
        dataloader_idx: which validation dataloader to watch.

    Raises:
        ValueError: if ``bins`` is not positive.

    Example::

        L.Trainer(callbacks=[Distillation(teacher, method=KD()), CalibrationMonitor()])
    """

    def __init__(
        self,
        bins: int = 15,
        diagram_every_n_epochs: int = 1,
        prefix: str = "calibration",
        network: str | None = None,
        target: Target | None = None,
        logits: LogitsOf | None = None,
        dataloader_idx: int = 0,
    ) -> None:
        super().__init__(prefix, network, target, logits, dataloader_idx)
        if bins < 1 or diagram_every_n_epochs < 0:
            raise ValueError(
                f"expected bins >= 1 and diagram_every_n_epochs >= 0, got {bins} and {diagram_every_n_epochs}"
            )
        self.diagram_every_n_epochs = diagram_every_n_epochs
        self.metric = CalibrationMetric(bins)
        self._collected: tuple[Tensor, Tensor] | None = None

    @override
    def update(self, trainer: L.Trainer, pl_module: L.LightningModule, call: Call, student: View, target: Any) -> None:
        """Take in one batch."""
        self.metric.update(*class_indices(student.logits, target))

    @override
    def results(self) -> dict[str, Tensor]:
        """The four values."""
        values: dict[str, Tensor] = self.metric.compute()
        with self.metric.sync_context():
            self._collected = self.metric.collected()
        return values

    @override
    def reset(self, device: torch.device) -> None:
        """Start anew."""
        self.metric.to(device)
        self.metric.reset()

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the values, and the diagram if it is its turn."""
        super().on_validation_epoch_end(trainer, pl_module)
        every = self.diagram_every_n_epochs
        due = every > 0 and trainer.current_epoch % every == 0 and not trainer.sanity_checking
        if due and trainer.is_global_zero and self._collected is not None and self._collected[0].numel():
            self._draw(trainer, *self._collected)
        self._collected = None

    def _draw(self, trainer: L.Trainer, confidence: Tensor, correct: Tensor) -> None:
        loggers = [logger for logger in trainer.loggers if _takes_figures(logger)]
        if not loggers:
            return
        try:
            figure = reliability_diagram(confidence, correct, self.metric.bins)
        except ImportError:
            warnings.warn(
                "CalibrationMonitor draws no reliability diagram because matplotlib is not installed; install it, or "
                "pass diagram_every_n_epochs=0",
                stacklevel=2,
            )
            self.diagram_every_n_epochs = 0
            return
        for logger in loggers:
            _log_figure(logger, f"{self.prefix}/reliability", figure, trainer.global_step)


def reliability_diagram(confidence: Tensor, correct: Tensor, bins: int = 15) -> Figure:
    """Draw accuracy against confidence; the diagonal is perfect calibration.

    Args:
        confidence: confidence in the predicted class, ``(N,)``.
        correct: whether the prediction was right, ``(N,)``.
        bins: number of bins of equal width.

    Returns:
        A matplotlib figure; samples per bin are the grey bars.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    mean, accuracy, share = (values.cpu().tolist() for values in reliability(confidence.float(), correct, bins))
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    left = [(position + 0.5) / bins for position in range(bins)]
    axes.bar(left, share, width=1 / bins, color="0.85", label="share of samples")
    filled = [position for position in range(bins) if share[position] > 0]
    axes.plot([mean[p] for p in filled], [accuracy[p] for p in filled], marker="o", label="student")
    axes.plot([0, 1], [0, 1], linestyle="--", color="0.5", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _takes_figures(logger: Any) -> bool:
    return hasattr(logger, "log_image") or hasattr(logger.experiment, "add_figure")


def _log_figure(logger: Any, name: str, figure: Figure, step: int) -> None:
    if hasattr(logger, "log_image"):
        logger.log_image(name, [figure], step=step)
    else:
        logger.experiment.add_figure(name, figure, global_step=step)
