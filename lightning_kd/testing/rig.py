"""A method built on tiny networks by the library's own engine, outside any trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.build import build_from
from lightning_kd.engine.dry_run import quiet
from lightning_kd.engine.exchange import Exchange, Progress, View
from lightning_kd.engine.network import find_network
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.taps import Recorder
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods import family
from lightning_kd.methods.base import DistillationMethod
from lightning_kd.testing.networks import TinyCNN, TinyTokens, image_batch, token_batch
from lightning_kd.testing.scenes import TinyDetector, scene_batch

MethodFactory = Callable[[], DistillationMethod]
"""Makes a fresh, unbuilt method; called many times."""

Inputs = Literal["images", "tokens", "scenes"]
"""Which tiny networks and batches a method is tried on: classifiers, language models or detectors."""

NUM_SAMPLES = 32
"""Size of the imagined training set."""


class Rig:
    """A method, built on a tiny student and teacher, and the exchanges to call it with.

    Args:
        factory: makes the method.
        inputs: what the networks see.
        seed: seed of the networks and of the method's own parameters.
        same: whether the student is a copy of the teacher, both in eval mode (but a detector samples proposals in
            training mode only, and computes the same in both).
        dtype: floating-point type of networks, method and images; boxes stay float32.
    """

    def __init__(
        self,
        factory: MethodFactory,
        inputs: Inputs = "images",
        *,
        seed: int = 0,
        same: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.inputs, self.dtype = inputs, torch.float32
        torch.manual_seed(seed)
        self.teacher = tiny_network(inputs, teacher=True).eval()
        self.student = copy.deepcopy(self.teacher) if same else tiny_network(inputs, teacher=False).train()
        self.method = factory()
        if inputs == "scenes":
            self.student.train()
            # a method may run the teacher's head on the student's features, with autograd on
            self.teacher.requires_grad_(self.method.trains_teacher)
        if self.method.trains_teacher and not same:
            self.teacher.train()
        self._build()
        self._patches = Patches()
        self._recorders: list[Recorder] = []
        self.tap()
        self._set_up()
        self.dtype = dtype
        for module in (self.student, self.teacher, self.method):
            module.to(dtype)

    def batch(self, batch_size: int = 8, seed: int = 0, *, boxes: bool = True) -> Any:
        """What a data loader would give: inputs and labels; of scenes, images, sizes and targets in a dictionary.

        Args:
            batch_size: samples.
            seed: seed of the batch.
            boxes: whether scenes have any boxes.
        """
        if self.inputs == "tokens":
            return token_batch(batch_size, seed=seed)
        if self.inputs == "scenes":
            images, sizes, targets = scene_batch(batch_size, seed, boxes=boxes)
            return {"images": images.to(self.dtype), "sizes": sizes, "targets": targets}
        images, labels = image_batch(batch_size, seed)
        return images.to(self.dtype), labels

    def exchange(
        self,
        batch_size: int = 8,
        seed: int = 0,
        *,
        teacher_grad: bool = False,
        boxes: bool = True,
        target: bool = True,
    ) -> Exchange:
        """Run both networks on a random batch.

        Args:
            batch_size: samples.
            seed: seed of the batch.
            teacher_grad: keep the teacher's graph, to see whether a gradient flows into it.
            boxes: whether scenes have any boxes.
            target: whether labels are known; detectors are given theirs.
        """
        batch = self.batch(batch_size, seed, boxes=boxes)
        inputs, labels = _arguments(batch, target=target)
        with_graph = teacher_grad or self.method.trains_teacher
        return Exchange(
            inputs=inputs,
            target=labels,
            student=self._view(0, *inputs, grad=True),
            teachers=[self._view(1, *inputs, grad=with_graph)] if self.method.needs_teacher else [],
            progress=Progress(epoch=1, step=10, fraction=0.5, max_epochs=2),
            batch=batch,
            index=(torch.arange(batch_size) + seed * batch_size) % NUM_SAMPLES,
            run_student=lambda *args: self._view(0, *args, grad=True),
            run_teacher=lambda *args, position=0: self._view(1, *args, grad=with_graph),
        )

    def loss(self, exchange: Exchange | None = None, method: DistillationMethod | None = None, seed: int = 1) -> Tensor:
        """The loss of a copy of the method, so that its state and random numbers start afresh every time."""
        method = copy.deepcopy(method or self.method)
        torch.manual_seed(seed)
        loss: Tensor = method(exchange or self.exchange())
        return loss

    def trainable(self) -> list[nn.Parameter]:
        """Everything that training would update: the student, the method's own parameters and a peer."""
        modules = [self.student, self.method, *([self.teacher] if self.method.trains_teacher else [])]
        return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]

    def tap(self) -> None:
        """Install the taps in both networks."""
        pairs = self.method.pairs
        taps = ([tap for tap, _ in pairs], [tap for _, tap in pairs] if self.method.needs_teacher else [])
        self._recorders = [
            Recorder(find_network(network), names, with_grad=False)
            for network, names in zip((self.student, self.teacher), taps, strict=True)
        ]
        for recorder in self._recorders:
            recorder.install(self._patches)

    def release(self) -> None:
        """Take the taps out, as at the end of a training; no exchange can be made until :meth:`tap`."""
        self._patches.undo()

    def _view(self, side: int, *inputs: Any, grad: bool) -> View:
        recorder, network = self._recorders[side], (self.student, self.teacher)[side]
        recorder.start()
        try:
            with torch.set_grad_enabled(grad):
                output = network(*inputs)
        finally:
            recorder.stop()
        return View(output, recorder.take()[-1].features)

    def _build(self) -> None:
        layers = self.method.layers
        self.method.pairs = [] if isinstance(layers, str) or not layers else list(layers.items())
        batch = self.batch(2)
        teachers = [Teacher(self.teacher)] if self.method.needs_teacher else []
        build_from(
            (_arguments(batch)[0], {}),
            batch,
            find_network(self.student),
            teachers,
            [self.method],
            Settings(),
            num_samples=NUM_SAMPLES,
        )

    def _set_up(self) -> None:
        if not self.method.has_setup_pass:
            return
        with quiet(self.teacher):
            for seed in range(NUM_SAMPLES // 8):
                batch = self.batch(8, seed)
                inputs, target = _arguments(batch)
                view = self._view(1, *inputs, grad=False)
                self.method.observe(Exchange(inputs, target, View(None), [view], batch=batch))
            self.method.finish_setup()


def tiny_network(inputs: Inputs, *, teacher: bool) -> nn.Module:
    """A fresh tiny network.

    Detectors predict distributions over distances (``kind="gfl"``): of all ways to code a box, only this one is open to
    every method.

    Args:
        inputs: what it sees.
        teacher: whether it is the teacher, which is larger, or the student.
    """
    if inputs == "tokens":
        return TinyTokens(24 if teacher else 16)
    if inputs == "scenes":
        return TinyDetector(12 if teacher else 8, "gfl")
    return TinyCNN((12, 20, 24), 1) if teacher else TinyCNN((8, 12, 16), 2)


def inputs_for(method: DistillationMethod | type[DistillationMethod]) -> Inputs:
    """Which tiny networks suit a method: tokens for the language family, scenes for detection, else images."""
    kind: Any = method if isinstance(method, type) else type(method)
    by_family: dict[str, Inputs] = {"language": "tokens", "detection": "scenes"}
    return by_family.get(family(kind), "images")


def _arguments(batch: Any, *, target: bool = True) -> tuple[tuple[Any, ...], Any]:
    """What the networks are called with, and the labels."""
    if isinstance(batch, dict):
        targets = batch["targets"] if target else None
        return (batch["images"], batch["sizes"], targets), targets
    inputs, labels = batch
    return (inputs,), labels if target else None
