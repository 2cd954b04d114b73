"""Watch how closely the student follows its teacher, which is not the same as being right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_kd.callbacks._fidelity_metric import CKAMetric, FidelityMetric
from lightning_kd.callbacks._observation import ValidationMonitor, class_indices, hooked_recorder
from lightning_kd.engine.exchange import LogitsOf, View
from lightning_kd.engine.taps import Call, Recorder
from lightning_kd.engine.target import Target
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.checks import check_same_logits


class FidelityMonitor(ValidationMonitor):
    """Logs the student's fidelity to its teacher at the end of every validation epoch.

    * ``fidelity/agreement``: share of samples for which both predict the same class.
    * ``fidelity/kl``: mean divergence of the predictive distributions, KL(teacher ‖ student), at temperature 1.
    * ``fidelity/agreement_teacher_right`` and ``..._teacher_wrong``: agreement where the teacher is right and where it
      is wrong, so that copied knowledge and copied mistakes can be told apart (with labels only).
    * ``fidelity/cka/<student layer>``: linear CKA of the named layers.

    It reads the forward pass that ``validation_step`` makes anyway and runs the teacher once a batch, on the tensors
    that the student's network received.

    Args:
        teacher: the teacher; by default the first one of the :class:`~lightning_kd.Distillation` in the same Trainer.
        layers: student layer → teacher layer, for CKA.
        prefix: what stands before the slash.
        network: dotted name of the student's network, where it cannot be found.
        target: where the labels are in the batch.
        logits: callable from a network's output to its logits.
        dataloader_idx: which validation dataloader to watch.

    Example::

        L.Trainer(callbacks=[Distillation(teacher, method=KD()), FidelityMonitor(layers={"layer3": "layer3"})])
    """

    def __init__(
        self,
        teacher: nn.Module | None = None,
        layers: Mapping[str, str] | None = None,
        prefix: str = "fidelity",
        network: str | None = None,
        target: Target | None = None,
        logits: LogitsOf | None = None,
        dataloader_idx: int = 0,
    ) -> None:
        super().__init__(prefix, network, target, logits, dataloader_idx)
        self.layers = dict(layers or {})
        self.metric = FidelityMetric()
        self.alignments = [CKAMetric() for _ in self.layers]
        self._given = None if teacher is None else Teacher(teacher)
        self._teacher: Teacher | None = None
        self._teacher_recorder: Recorder | None = None

    @property
    @override
    def student_taps(self) -> list[str]:
        return list(self.layers)

    @override
    def open(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find the teacher and tap its layers."""
        self._teacher = self._given or self._distilled(trainer)
        if self._given is not None:
            self._given.freeze(self._patches)
        if self.layers:
            self._teacher_recorder = hooked_recorder(self._teacher.network, list(self.layers.values()), self._patches)

    @override
    def update(self, trainer: L.Trainer, pl_module: L.LightningModule, call: Call, student: View, target: Any) -> None:
        """Run the teacher on the same tensors and compare."""
        teacher, features = self._teach(trainer, pl_module, call)
        check_same_logits(student.logits, teacher.logits)
        logits = student.logits
        if target is None:
            labels, student_rows = None, _rows(logits)
            teacher_rows = _rows(teacher.logits)
        else:
            student_rows, labels = class_indices(logits, target)
            teacher_rows, _ = class_indices(teacher.logits, target)
        self.metric.update(student_rows, teacher_rows, labels)
        for alignment, (student_tap, teacher_tap) in zip(self.alignments, self.layers.items(), strict=True):
            alignment.update(student.feature(student_tap), features[teacher_tap])

    @override
    def results(self) -> dict[str, Tensor]:
        """Agreement, divergence and alignments."""
        values: dict[str, Tensor] = self.metric.compute()
        for alignment, name in zip(self.alignments, self.layers, strict=True):
            value = alignment.compute()
            if not value.isnan():
                values[f"cka/{name}"] = value
        return values

    @override
    def reset(self, device: torch.device) -> None:
        """Start anew."""
        for metric in (self.metric, *self.alignments):
            metric.to(device)
            metric.reset()

    def _teach(self, trainer: L.Trainer, pl_module: L.LightningModule, call: Call) -> tuple[View, dict[str, Tensor]]:
        assert self._teacher is not None
        parameter = next(self._teacher.module.parameters(), None)
        if parameter is not None and parameter.device != pl_module.device:
            self._teacher.module.to(pl_module.device)
        if self._teacher_recorder is not None:
            self._teacher_recorder.start()
        with trainer.precision_plugin.val_step_context():
            view = self._teacher.view(call.args, call.kwargs, self._logits)
        if self._teacher_recorder is None:
            return view, {}
        self._teacher_recorder.stop()
        calls = self._teacher_recorder.take()
        return view, calls[-1].features if calls else {}

    def _distilled(self, trainer: L.Trainer) -> Teacher:
        distillation = self.distillation(trainer)
        if distillation is None or not distillation.engine.teachers:
            raise ValueError(
                "FidelityMonitor found no teacher: pass `teacher=`, or use it in a Trainer with a Distillation that "
                "has one"
            )
        return distillation.engine.teachers[0]


def _rows(logits: Tensor) -> Tensor:
    rows = logits.flatten(0, -2)
    return rows.float() if rows.dtype.itemsize < 4 else rows
