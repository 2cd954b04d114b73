"""LightningCLI with a student, a teacher and methods."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from torch import nn
from typing_extensions import override

from lightning_kd import Classification, Distillation, DistillationModule, Teacher
from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.fit_weights import load_weights
from lightning_kd.methods import discover

CONFIG_FILE = "lightning-kd-fit.yaml"
"""Name of the complete configuration kept with the logs; not ``config.yaml``, which may be the user's own."""

_DISTILLATION = ("teacher", "method", "task_weight", "network", "target", "logits")


class FitParser(LightningArgumentParser):
    """Reports mistakes as :class:`CommandError`, without the usage of two hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise for a mistake, with advice where the reason is known."""
        advice = _advice(message)
        # parsers of nested classes have reported to this one
        raise CommandError(message.strip() if advice in message else f"{message.strip()}\n{advice}") from ex


class FitCLI(LightningCLI):
    """Parses and builds; nothing is trained yet.

    Args:
        arguments: the command line.

    Attributes:
        model: the module to fit: the student itself, or a :class:`DistillationModule` around a plain network.
        trainer: its Trainer; for a LightningModule the distillation is its first callback.

    Raises:
        CommandError: for a mistake in the configuration.
    """

    model: L.LightningModule
    config_init: Any

    def __init__(self, arguments: list[str]) -> None:
        discover()  # so that class_path: KD is understood
        super().__init__(
            args=arguments,
            run=False,
            parser_class=FitParser,
            parser_kwargs={
                "prog": "lightning-kd fit",
                "description": "Distil one network into another; --print_config alone prints a commented start.",
            },
            save_config_kwargs={"config_filename": CONFIG_FILE, "overwrite": True},
            # Lightning would hand the student's hyper-parameters to a teacher that is a LightningModule as well
            load_from_checkpoint_support=False,
        )

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.config = parser.parse_args(args)  # type: ignore[arg-type]  # always the list that __init__ gets

    @override
    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(L.Trainer, "trainer")
        parser.add_subclass_arguments(
            nn.Module,
            "model",
            required=True,
            fail_untyped=False,
            help="The student: a LightningModule, or a plain network together with --task.",
        )
        parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True, required=False)

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # teacher, method, task_weight ... with the types and the help of the callback's own signature
        parser.add_class_arguments(Distillation, None, instantiate=False, fail_untyped=False)
        parser.add_argument(
            "--teacher_checkpoint",
            type=str | list[str | None] | None,
            default=None,
            help="The teacher's weights: a Lightning checkpoint, a state dict or a .safetensors file; with several "
            "teachers, a list in their order.",
        )
        parser.add_argument(
            "--task",
            type=Classification | None,
            default=None,
            help="What a plain network is trained for; left out for a LightningModule.",
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint to continue from.")
        parser.add_argument(
            "--save_student", type=str | None, default=None, help="Where the trained student alone is saved."
        )

    @override
    def instantiate_classes(self) -> None:
        # renamed in jsonargparse 4.49; Lightning still calls the old name, which warns
        instantiate = getattr(self.parser, "instantiate", None) or self.parser.instantiate_classes
        self.config_init = _build(lambda: instantiate(self.config))
        self.datamodule = self.config_init.data
        _load_teachers(self.config_init.teacher, self.config_init.teacher_checkpoint)
        settings = {name: self.config_init[name] for name in _DISTILLATION}
        student, task = self.config_init.model, self.config_init.task
        self._distillation: list[L.Callback] = []
        if isinstance(student, L.LightningModule) and task is None:
            self.model = student
            # first, because callbacks that average weights must come after it
            self._distillation = [Distillation(**settings)]
        else:
            self.model = DistillationModule(student, **settings, task=task)
        self._add_configure_optimizers_method_to_model(None)
        self.trainer = _build(self.instantiate_trainer)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        own = self.config_init.trainer.callbacks or []
        callbacks = [*self._distillation, *(own if isinstance(own, list) else [own])]
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)


def _build(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except CommandError:
        raise
    except Exception as error:
        # most often an argument that the class refuses; with its traceback it could be mistaken for a defect
        raise CommandError(
            f"cannot build what the configuration describes: {type(error).__name__}: {error} ({_where(error)})"
        ) from error


def _where(error: BaseException) -> str:
    """File and line that raised the error."""
    traceback = error.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}, line {traceback.tb_lineno}"


def _load_teachers(teacher: Any, checkpoints: str | list[str | None] | None) -> None:
    if checkpoints is None:
        return
    teachers = list(teacher) if isinstance(teacher, list | tuple) else [] if teacher is None else [teacher]
    paths = checkpoints if isinstance(checkpoints, list) else [checkpoints]
    if len(paths) != len(teachers):
        raise CommandError(
            f"teacher_checkpoint names {len(paths)} file(s) for {len(teachers)} teacher(s); give one for each, in "
            "their order, and null for a teacher that already has its weights"
        )
    for network, path in zip(teachers, paths, strict=True):
        if path is not None:
            load_weights(network.module if isinstance(network, Teacher) else network, path)


def _advice(message: str) -> str:
    if "is not accepted" in message:
        return "What a function takes as **kwargs goes under `dict_kwargs:` beside `init_args:`."
    if "ModuleNotFoundError" in message or "No module named" in message or "nexpected import" in message:
        return f"Modules are imported from the installed packages and from {sys.path[0]!r}; check the class_path."
    return "`lightning-kd fit --print_config` prints a commented starting point, `--help` lists the options."
