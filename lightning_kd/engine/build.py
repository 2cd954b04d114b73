"""Before training: resolve the methods' layers and let them create their connectors, from one dry run."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from lightning_kd.data import Indexed
from lightning_kd.engine.attach import Patches
from lightning_kd.engine.dry_run import Inputs, NoExampleError, example_inputs, quiet
from lightning_kd.engine.exchange import BuildContext, Exchange, View
from lightning_kd.engine.network import Network
from lightning_kd.engine.rng import isolated_rng
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.stages import Anatomy, align, anatomy
from lightning_kd.engine.taps import Recorder
from lightning_kd.engine.target import find_target
from lightning_kd.engine.teacher import Teacher
from lightning_kd.methods.base import DistillationMethod


def build_methods(
    trainer: L.Trainer,
    module: L.LightningModule,
    network: Network,
    teachers: Sequence[Teacher],
    methods: Sequence[DistillationMethod],
    settings: Settings,
) -> None:
    """Fill in every method's ``pairs`` and call its ``build``.

    Raises:
        ValueError: when ``layers="auto"`` finds nothing, or several teachers meet a method that compares layers.
        RuntimeError: if shapes are needed and no example batch can be had.
    """
    for method in methods:
        method.pairs = [] if isinstance(method.layers, str) or not method.layers else list(method.layers.items())
        _check_teacher_count(method, len(teachers))
    needy = [method for method in methods if _needs_shapes(method)]
    if not needy:
        return
    try:
        inputs, batch = example_inputs(trainer, module, network)
    except NoExampleError as error:
        raise RuntimeError(
            f"{', '.join(type(method).__name__ for method in needy)} must see one batch before training to size its "
            f"connectors, but {error}. Set `example_input_array` on the LightningModule, or give fit() a training "
            "dataloader."
        ) from error
    build_from(inputs, batch, network, teachers, needy, settings, num_samples=_samples(trainer))


def build_from(
    inputs: Inputs,
    batch: Any,
    network: Network,
    teachers: Sequence[Teacher],
    methods: Sequence[DistillationMethod],
    settings: Settings,
    *,
    num_samples: int | None = None,
) -> Exchange:
    """Build ``methods`` from one call of the networks with ``inputs``.

    Args:
        inputs: positional and keyword arguments of the student's network.
        batch: the batch they came from, for the labels; or ``None``.
        network: the student's network.
        teachers: the teachers.
        methods: methods to build; explicit ``layers`` are already in their ``pairs``.
        settings: weights, and where things are.
        num_samples: size of the training set where it is known.

    Returns:
        The dry-run exchange.
    """
    args, kwargs = inputs
    found = anatomy(network.module, lambda: network.run_eagerly(*args, **kwargs))
    found_in_teachers = [_look_at(teacher, inputs) for teacher in teachers]
    for method in methods:
        _resolve(method, found, found_in_teachers)
    with quiet(network.module, *(teacher.module for teacher in teachers)):
        exchange = _dry_exchange(inputs, batch, network, teachers, methods, settings)
    context = BuildContext(exchange, network.module, [teacher.network.module for teacher in teachers], num_samples)
    for position, method in enumerate(methods):
        _build(method, position, context)
    return exchange


def _build(method: DistillationMethod, position: int, context: BuildContext) -> None:
    parameter = next((p for p in context.student.parameters() if p.is_floating_point()), None)
    before = torch.get_default_dtype()
    # a generator of its own: adding a method must not change the student's dropout or the order of the data
    with isolated_rng():
        torch.manual_seed(torch.initial_seed() + zlib.crc32(f"{position}/{type(method).__name__}".encode()))
        try:
            if parameter is not None:
                torch.set_default_dtype(parameter.dtype)
            method.build(context)
        finally:
            torch.set_default_dtype(before)
    if parameter is not None:
        method.to(parameter.device)


def _dry_exchange(
    inputs: Inputs,
    batch: Any,
    network: Network,
    teachers: Sequence[Teacher],
    methods: Sequence[DistillationMethod],
    settings: Settings,
) -> Exchange:
    args, kwargs = inputs
    patches = Patches()
    recorder = Recorder(
        dataclasses.replace(network, compiled=False),
        [tap for method in methods for tap, _ in method.pairs],
        with_grad=False,
    )
    views = []
    try:
        recorder.install(patches)
        recorder.start()
        network.module.forward(*args, **kwargs)
        call = recorder.take()[-1]
        for teacher in teachers:
            teacher.install([tap for method in methods for _, tap in method.pairs], patches)
            views.append(teacher.view(args, kwargs, settings.logits))
    finally:
        patches.undo()
    sample = batch.sample if isinstance(batch, Indexed) else batch
    return Exchange(
        inputs=args,
        kwargs=kwargs,
        target=None if batch is None else find_target(sample, settings.target),
        student=View(call.output, call.features, settings.logits),
        teachers=views,
        batch=sample,
        index=batch.index if isinstance(batch, Indexed) and isinstance(batch.index, torch.Tensor) else None,
    )


def _look_at(teacher: Teacher, inputs: Inputs) -> Anatomy:
    args, kwargs = inputs
    entry = teacher.network.run_eagerly if teacher.network.compiled else teacher.entry
    return anatomy(teacher.network.module, lambda: entry(*args, **kwargs))


def _resolve(method: DistillationMethod, student: Anatomy, teachers: list[Anatomy]) -> None:
    teacher = teachers[0] if teachers else student
    if method.layers == "auto":
        method.pairs = list(method.select_stages(align(student.stages, teacher.stages)))
        if method.reads_last_map and method.pairs and teacher.last_map:
            method.pairs[-1] = (method.pairs[-1][0], teacher.last_map)
    elif method.layers == "penultimate" and student.penultimate and teacher.penultimate:
        method.pairs = [(student.penultimate, teacher.penultimate)]
    if isinstance(method.layers, str) and not method.pairs:
        raise ValueError(
            f'{type(method).__name__}(layers="{method.layers}") found no layers to compare (student stages: '
            f"{student.stages}, teacher stages: {teacher.stages}; classifiers: {student.classifier}, "
            f'{teacher.classifier}); name them: layers={{"student layer": "teacher layer"}}'
        )


def _check_teacher_count(method: DistillationMethod, count: int) -> None:
    if count > 1 and not method.uses_all_teachers and (method.needs_features or _has_build(method)):
        raise ValueError(
            f"{type(method).__name__} compares the student's layers with one teacher, got {count} teachers; give one "
            "teacher, or use a logit method, which averages over teachers"
        )


def _has_build(method: DistillationMethod) -> bool:
    return type(method).build is not DistillationMethod.build


def _needs_shapes(method: DistillationMethod) -> bool:
    return isinstance(method.layers, str) or _has_build(method)


def _samples(trainer: L.Trainer) -> int | None:
    with contextlib.suppress(Exception), isolated_rng():
        dataset: Any = trainer.fit_loop._data_source.dataloader()
        return len(dataset.dataset)
    return None
