"""The engine behind both doors: attaches to a LightningModule and adds the distillation terms to its training step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from lightning_kd.engine.ahead import Ahead
from lightning_kd.engine.attach import Patches
from lightning_kd.engine.backward import calls_behind
from lightning_kd.engine.batch import ReceivedBatch
from lightning_kd.engine.build import build_methods
from lightning_kd.engine.economy import Economy
from lightning_kd.engine.exchange import Exchange, Progress, View
from lightning_kd.engine.network import Network, find_network
from lightning_kd.engine.objective import Fusion, Objective
from lightning_kd.engine.optimizers import add_parameters, add_peer_group, drop_parameters
from lightning_kd.engine.peers import PeerOptimizers, brings_optimizer
from lightning_kd.engine.refuse import refuse_averaging_before, refuse_eval_mode
from lightning_kd.engine.settings import Settings
from lightning_kd.engine.setup_pass import run_setup_pass
from lightning_kd.engine.sharding import shard_like
from lightning_kd.engine.state import DistillationState
from lightning_kd.engine.taps import Call, Recorder, Tap, check_taps
from lightning_kd.engine.target import find_target
from lightning_kd.engine.teacher import Teacher, TeacherSource
from lightning_kd.engine.views import begin_epoch, follow_epochs
from lightning_kd.methods.base import DistillationMethod


class Engine:
    """Adds distillation to one LightningModule for the length of one ``fit``.

    Args:
        teachers: frozen teachers.
        methods: the distillation methods.
        settings: weights and where things are.

    Raises:
        TypeError: for a method that is no instance of :class:`DistillationMethod`.
        ValueError: if there is no method, or a method needs a teacher and there is none.
    """

    def __init__(self, teachers: Sequence[Teacher], methods: Sequence[DistillationMethod], settings: Settings) -> None:
        self.teachers = list(teachers)
        self.methods = list(methods)
        self.settings = settings
        self.objective = Objective(self.methods, settings.task_weight)
        self.online = [method for method in self.methods if method.trains_teacher]
        self.peers = [teacher.module for teacher in self.teachers] if self.online else []
        if self.online and any(teacher.overlap or teacher.economy != Economy() for teacher in self.teachers):
            raise ValueError(
                "a peer trains along, in the student's precision and layout: pass the network itself, or a Teacher "
                "without precision, channels_last, compile and overlap"
            )
        self.state = DistillationState(self.methods, self.peers, settings.task_weight)
        self._peer_optimizers = PeerOptimizers([])
        self._peer_state: dict[str, Any] | None = None
        self.teacher_source: TeacherSource | None = None
        self.recorder: Recorder | None = None
        self.network: Network | None = None
        self._ahead: dict[Teacher, Ahead] = {}
        self._patches = Patches()
        self._restored: dict[str, Any] | None = None
        self._built_for: tuple[int, ...] | None = None
        self._total_steps: float | None = None
        self._received = ReceivedBatch()

    # attaching

    @property
    def names(self) -> list[str]:
        """The methods' names in logs."""
        return self.objective.names

    @property
    def fusion(self) -> Fusion | None:
        """What combines task and distillation sample by sample, if anything does."""
        return self.objective.fusion

    @fusion.setter
    def fusion(self, fusion: Fusion | None) -> None:
        self.objective.fusion = fusion

    def attach(self, trainer: L.Trainer, module: L.LightningModule, student: nn.Module) -> None:
        """Patch ``module`` for a fit.

        Args:
            trainer: the trainer about to fit.
            module: the LightningModule that the trainer drives.
            student: where the student's network is looked for; ``module`` itself under the callback door.

        Raises:
            RuntimeError: for situations in which the student would silently be trained wrongly.
            ValueError: for an unknown network or layer.
        """
        self.detach()
        refuse_eval_mode(module)
        refuse_averaging_before(trainer, self)
        self._patches.on_undo(self._forget)
        follow_epochs(trainer, self._patches)
        for teacher in self.teachers:
            if self.online:
                if not any(parameter.requires_grad for parameter in teacher.module.parameters()):
                    teacher.module.requires_grad_(True)
                teacher.module.train()
            else:
                teacher.freeze(self._patches)
        self.state.register(module, self._patches)
        self._patches.replace(module, "training_step", lambda original: self._make_training_step(module, original))
        self._patches.replace(module, "manual_backward", lambda original: self._make_manual_backward(module, original))
        self._patches.replace(
            module,
            "configure_optimizers",
            lambda original: self._make_configure_optimizers(trainer, module, student, original),
        )
        if is_overridden("setup", student, L.LightningModule) or is_overridden(
            "configure_model", student, L.LightningModule
        ):
            # the network may not exist before these hooks have run
            self._patches.replace(
                module,
                "configure_model",
                lambda original: self._make_configure_model(trainer, module, student, original),
                transparent=False,
            )
        else:
            self.build(trainer, module, student)

    def detach(self) -> None:
        """Undo every change to the module, the teachers and their layers."""
        self._patches.undo()

    def build(self, trainer: L.Trainer, module: L.LightningModule, student: nn.Module) -> None:
        """Resolve layers and create connectors from one dry run; does nothing when that has been done.

        Raises:
            ValueError: for an unknown layer, or when ``"auto"`` finds nothing.
            RuntimeError: if shapes are needed and no example batch can be had.
        """
        self.network = find_network(student, self.settings.network)
        built_for = (id(self.network.module), *(id(teacher.module) for teacher in self.teachers))
        if built_for != self._built_for:
            build_methods(trainer, module, self.network, self.teachers, self.methods, self.settings)
            self._built_for = built_for
        if self._restored is not None:
            self.load_state_dict(self._restored)
        for method in self.methods:
            check_taps(self.network.module, [Tap.parse(tap) for tap, _ in method.pairs])
            for teacher in self.teachers:
                check_taps(teacher.network.module, [Tap.parse(tap) for _, tap in method.pairs])

    def _student_taps(self) -> list[str]:
        return [tap for method in self.methods for tap, _ in method.pairs]

    def teacher_taps(self) -> list[str]:
        """The layers of the teachers that methods compare, in the order of the methods."""
        return [tap for method in self.methods for _, tap in method.pairs]

    @property
    def reads_teacher_output(self) -> bool:
        """Whether a method or a fusion ratio looks at more of the teacher than its taps."""
        readers = (method.needs_teacher and method.needs_teacher_output for method in self.methods)
        return bool(self.online) or self.fusion is not None or any(readers)

    # the patched hooks

    def _make_configure_model(
        self, trainer: L.Trainer, module: L.LightningModule, student: nn.Module, original: Callable[[], Any]
    ) -> Callable[[], Any]:
        def configure_model() -> Any:
            result = original()
            self.build(trainer, module, student)
            shard_like(trainer.strategy, self.methods)
            return result

        return configure_model

    def _make_configure_optimizers(
        self, trainer: L.Trainer, module: L.LightningModule, student: nn.Module, original: Callable[[], Any]
    ) -> Callable[[], Any]:
        def configure_optimizers() -> Any:
            configured = original()
            self._install(trainer, module, student)
            assert self.network is not None
            add_parameters(configured, self.state.methods.parameters(), self.network.module)
            if self.peers:
                self._configure_peers(trainer, configured)
            return configured

        return configure_optimizers

    def _configure_peers(self, trainer: L.Trainer, configured: Any) -> None:
        assert self.network is not None
        own = [peer for peer in self.peers if brings_optimizer(peer)]
        drop_parameters(configured, own)
        add_peer_group(
            configured,
            [peer for peer in self.peers if peer not in own],
            self.network.module,
            lr=next((lr for method in self.online if (lr := getattr(method, "peer_lr", None)) is not None), None),
            weight_decay=next(
                (decay for method in self.online if (decay := getattr(method, "peer_weight_decay", None)) is not None),
                None,
            ),
        )
        self._peer_optimizers = PeerOptimizers(own)
        self._peer_optimizers.check(trainer)
        if self._peer_state is not None:
            self._peer_optimizers.load_state_dict(self._peer_state)

    def _install(self, trainer: L.Trainer, module: L.LightningModule, student: nn.Module) -> None:
        """Install the taps, now that SyncBatchNorm, precision and sharding have had their say about the module tree."""
        self.network = find_network(student, self.settings.network)
        if self.recorder is None:
            self.recorder = Recorder(self.network, self._student_taps(), with_grad=True)
            self.recorder.install(self._patches)
            for teacher in self.teachers:
                if not self.online:
                    teacher.convert(trainer.precision_plugin)
                    teacher.module.to(module.device)
                teacher.install(
                    self.teacher_taps(),
                    self._patches,
                    trains=bool(self.online),
                    may_end_early=not self.reads_teacher_output,
                )
            self._ahead = {teacher: self._start_ahead(teacher) for teacher in self.teachers if teacher.overlap}
            if self._ahead:
                self.recorder.before_call = self._start_teachers

    def _make_training_step(self, module: L.LightningModule, original: Callable[..., Any]) -> Callable[..., Any]:
        def training_step(*args: Any, **kwargs: Any) -> Any:
            recorder = self._active_recorder()
            args, kwargs = self._received.receive(args, kwargs)
            for ahead in self._ahead.values():
                ahead.clear()
            recorder.start()
            try:
                output = original(*args, **kwargs)
            finally:
                recorder.stop()
            if not module.automatic_optimization:
                self._refuse_leftover()
                return output
            if output is None:
                recorder.take()
                return None
            if isinstance(output, Tensor):
                return self._add_terms(module, output, self._taken_calls())
            return {**output, "loss": self._add_terms(module, output["loss"], self._taken_calls())}

        return training_step

    def _make_manual_backward(self, module: L.LightningModule, original: Callable[..., Any]) -> Callable[..., Any]:
        def manual_backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
            recorder = self._active_recorder()
            calls = calls_behind(loss, recorder.calls)
            if calls:
                recorder.calls = [call for call in recorder.calls if not any(call is other for other in calls)]
                with self._paused(recorder):
                    loss = self._add_terms(module, loss, calls)
            return original(loss, *args, **kwargs)

        return manual_backward

    @contextlib.contextmanager
    def _paused(self, recorder: Recorder) -> Iterator[None]:
        was_active, recorder.active = recorder.active, False
        try:
            yield
        finally:
            recorder.active = was_active

    # one step

    def _taken_calls(self) -> list[Call]:
        calls = self._active_recorder().take()
        if not calls:
            assert self.network is not None
            name = self.network.path or "the LightningModule itself"
            raise RuntimeError(
                f"the student's network ({name}) was not called with gradients in training_step, so there is nothing "
                "to distil. Call it (`self.model(x)`) in training_step, or pass `network=` with the dotted name of the "
                "sub-module that is. If it was compiled and called before fit, call torch.compiler.reset() first."
            )
        return calls

    def _refuse_leftover(self) -> None:
        if self._active_recorder().take():
            raise RuntimeError(
                "under manual optimization the student's network was called, but its output did not reach "
                "self.manual_backward(loss), so the distillation terms were not trained. Call "
                "self.manual_backward(loss) instead of loss.backward(), and run forwards that are not trained under "
                "torch.no_grad()."
            )

    def _add_terms(self, module: L.LightningModule, task_loss: Tensor, calls: list[Call]) -> Tensor:
        progress = self._progress(module.trainer)
        exchanges = (self._exchange(call, task_loss, progress) for call in calls)
        total, terms = self.objective.total(task_loss, exchanges, progress)
        if not module.trainer.barebones:
            module.log_dict({f"kd/{name}": value for name, value in terms.items()}, batch_size=_batch_size(calls[0]))
        return total

    def _exchange(self, call: Call, task_loss: Tensor, progress: Progress) -> Exchange:
        logits_of = self.settings.logits
        return Exchange(
            inputs=call.args,
            kwargs=call.kwargs,
            target=find_target(self._received.sample, self.settings.target),
            student=View(call.output, call.features, logits_of),
            teachers=self._teacher_views(call),
            task_loss=task_loss,
            progress=progress,
            batch=self._received.sample,
            index=self._received.index,
            run_student=self._run_student,
            run_teacher=lambda *args, position=0, **kwargs: self._teach(self.teachers[position], args, kwargs),
        )

    def _teacher_views(self, call: Call) -> list[View]:
        def teach(teacher: Teacher) -> View:
            return self._teach_step(teacher, call)

        if self.teacher_source is None:
            return [teach(teacher) for teacher in self.teachers]
        return self.teacher_source.views(self.teachers, self._received.keys, call, teach)

    def _teach_step(self, teacher: Teacher, call: Call) -> View:
        started = self._ahead[teacher].take(call.args) if teacher in self._ahead else None
        return started or self._teach_as_needed(teacher, call.args, call.kwargs)

    def _teach_as_needed(self, teacher: Teacher, args: tuple[Any, ...], kwargs: dict[str, Any]) -> View:
        if self.reads_teacher_output:
            return self._teach(teacher, args, kwargs)
        return teacher.features_view(args, kwargs, self.settings.logits)

    def _start_ahead(self, teacher: Teacher) -> Ahead:
        return Ahead(lambda args, kwargs: self._teach_as_needed(teacher, args, kwargs))

    def _start_teachers(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for ahead in self._ahead.values() if self.teacher_source is None else ():
            ahead.start(args, kwargs)

    def _teach(self, teacher: Teacher, args: tuple[Any, ...], kwargs: dict[str, Any]) -> View:
        view = teacher.peer_view if self.online else teacher.view
        return view(args, kwargs, self.settings.logits)

    def _run_student(self, *args: Any, **kwargs: Any) -> View:
        recorder = self._active_recorder()
        assert self.network is not None
        waiting, recorder.calls = recorder.calls, []
        was_active, recorder.active = recorder.active, True
        before_call, recorder.before_call = recorder.before_call, None
        try:
            self.network.module(*args, **kwargs)
            call = recorder.calls[-1]
        finally:
            recorder.calls, recorder.active = waiting, was_active
            recorder.before_call = before_call
        return View(call.output, call.features, self.settings.logits)

    def _active_recorder(self) -> Recorder:
        if self.recorder is None:
            raise RuntimeError(
                "distillation is not set up: configure_optimizers of the student was not called by the Trainer before "
                "training_step"
            )
        return self.recorder

    def _progress(self, trainer: L.Trainer) -> Progress:
        if self._total_steps is None:
            self._total_steps = float(trainer.estimated_stepping_batches)
        known = 0 < self._total_steps < float("inf")
        return Progress(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            fraction=min(trainer.global_step / self._total_steps, 1.0) if known else 0.0,
            max_epochs=trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None,
        )

    def setup_pass(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Run the setup pass of the methods that have one, unless a checkpoint brought its results."""
        methods = [method for method in self.methods if method.has_setup_pass]
        if methods and self._restored is None:
            assert self.network is not None
            run_setup_pass(trainer, module, self.network, self.teachers, methods, self.settings)

    # checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Weights and buffers of the methods, weights of the peers and state of the peers' optimizers."""
        return {"modules": dict(self.state.state_dict()), "peer_optimizers": self._peer_optimizers.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; kept until the connectors exist."""
        self._restored = state
        self._peer_state = state["peer_optimizers"]
        if self._built_for is not None:
            self.state.load_state_dict(state["modules"])

    # peers with optimizers of their own

    def before_zero_grad(self) -> None:
        """Clear the gradients of peers with an optimizer of their own."""
        self._peer_optimizers.zero_grad()

    def before_optimizer_step(self) -> None:
        """Step the peers' own optimizers."""
        self._peer_optimizers.step()

    def begin_epoch(self, trainer: L.Trainer) -> None:
        """Show the epoch's views of training data that repeat their random draws."""
        begin_epoch(trainer)

    def end_epoch(self) -> None:
        """Step the peers' own schedulers."""
        self._peer_optimizers.end_epoch()

    def _forget(self) -> None:
        self.recorder = None
        self._ahead = {}
        self._received.clear()
        self._total_steps = None
        self._restored = self._peer_state = None  # a checkpoint is for one fit; the next goes on from what it trained

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return self


def _batch_size(call: Call) -> int:
    """Size of the network's batch: named, so that Lightning need not search the whole batch for it every step."""
    shapes = (value.shape for value in (*call.args, *call.kwargs.values()) if isinstance(value, Tensor) and value.dim())
    return next((int(shape[0]) for shape in shapes), 1)
