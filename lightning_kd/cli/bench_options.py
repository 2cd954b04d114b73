"""The options of `lightning-kd bench run`."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from lightning_kd.cli.json_objects import parse_object
from lightning_kd.cli.lists import parse_names, parse_seeds
from lightning_kd.cli.places import RUNS

Settings = dict[str, bool | int | float | str | list[str]]

_TRAINER: dict[str, tuple[Any, str]] = {
    "accelerator": (str, "cpu, gpu or auto."),
    "strategy": (str, "Lightning's strategy, such as ddp."),
    "devices": (PositiveInt, "Devices of a run, which share its batches."),
    "compile": (bool, "Whether the student is compiled."),
    "channels_last": (bool, "Whether images are laid out channels last."),
    "sync_batchnorm": (bool, "Whether batch normalization counts the samples of all devices."),
    "loader_workers": (NonNegativeInt, "Processes that prepare batches."),
}


def add_options(parser: ArgumentParser) -> None:
    """Declare all options.

    Args:
        parser: that of the command.
    """
    parser.add_argument("protocol", metavar="PROTOCOL", help="Protocol to run; see `lightning-kd bench list`.")
    parser.add_argument("--output", metavar="DIR", default=RUNS, help="Directory for results, logs and teachers.")
    _add_selection(parser)
    _add_own_method(parser)
    _add_variants(parser)
    _add_launching(parser)
    _add_training(parser)


def selection(options: Namespace) -> dict[str, Any]:
    """What is run, as keyword arguments of :func:`kd_bench.runner.run_benchmark`; nothing is imported for them.

    Raises:
        CommandError: if a list cannot be read.
    """
    return {
        "methods": None if options.methods is None else parse_names("--methods", options.methods),
        "pairs": None if options.pairs is None else parse_names("--pairs", options.pairs),
        "seeds": None if options.seeds is None else parse_seeds(options.seeds),
        "quick": options.quick,
        "miniature": options.miniature,
        "tune": options.tune,
        "method_parameters": parse_object("--method-parameters", options.method_parameters),
        "task_weight": options.task_weight,
    }


def launching(options: Namespace) -> dict[str, Any]:
    """How and where it is run, likewise; needs ``kd_bench``."""
    from kd_bench.options import CHECKPOINT_SECONDS, LaunchOptions, RayOptions, RunOptions

    loggers = () if options.logger is None else tuple(parse_names("--logger", options.logger))
    seconds = CHECKPOINT_SECONDS if options.checkpoint_every is None else options.checkpoint_every
    ray = options.ray
    return {
        "trainer": {name: value for name, value in vars(options.trainer).items() if value is not None},
        "options": RunOptions(loggers, seconds, keep_weights=options.keep_weights),
        "launch": LaunchOptions(
            launcher=options.launcher,
            workers=options.workers,
            threads=options.threads,
            retries=options.retries,
            ray=RayOptions(ray.address, ray.cpus, ray.gpus),
            slurm=options.slurm or {},
        ),
    }


def _add_selection(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("what is run").add_argument
    help_methods = "Rows, such as plain,KD, or all; files of yours, such as my_method.py; by default the core rows."
    add("--methods", metavar="NAMES", help=help_methods)
    add("--pairs", metavar="NAMES", help="Pairs, separated by commas; by default all.")
    add("--seeds", metavar="SEEDS", help="Such as 0-4 or 0,1,7; by default all of the protocol's.")


def _add_own_method(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("for the methods from files among --methods").add_argument
    add("--method-parameters", metavar="JSON", help="Constructor arguments, such as '{\"temperature\": 4}'.")
    add("--task-weight", type=float | None, metavar="X", help="Factor of the student's own loss; 1 by default.")


def _add_variants(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("variants, whose results never mix with the protocol's").add_argument
    add("--quick", action="store_true", help="A fifth of the epochs, two seeds: to try things out.")
    add("--miniature", action="store_true", help="A handful of samples: to see that everything works.")
    add("--tune", action="store_true", help="Scores on a part of the training set: to choose hyper-parameters.")


def _add_launching(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("where it is run").add_argument
    add("--launcher", metavar="NAME", default="local", help="local, ray or slurm.")
    add("--workers", type=PositiveInt, metavar="N", help="Runs at a time; locally two, or one a GPU.")
    add("--threads", type=PositiveInt, metavar="N", default=1, help="PyTorch threads of a run.")
    add("--retries", type=NonNegativeInt, metavar="N", default=1, help="How often a failed run is tried again.")
    add("--ray.address", metavar="HOST:PORT", help="Running cluster, or auto; else one is started on this machine.")
    add("--ray.cpus", type=float | None, metavar="N", help="CPUs of a run; by default its threads.")
    add("--ray.gpus", type=float | None, metavar="N", help="GPUs of a run, such as 1 or 0.5.")
    help_slurm = "Parameters of submitit, such as --slurm.partition gpu --slurm.timeout_min 600."
    add("--slurm", type=Settings | None, metavar="{NAME: VALUE}", help=help_slurm)


def _add_training(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("how a run is done").add_argument
    help_weights = "Keep the trained students as safetensors, so that others can evaluate them again."
    add("--keep-weights", action="store_true", help=help_weights)
    add("--logger", metavar="NAMES", help="wandb, tensorboard, mlflow, besides the CSV files.")
    add("--checkpoint-every", type=float | None, metavar="SECONDS", help="Time between the checkpoints of a run.")
    for name, (kind, text) in _TRAINER.items():
        add(f"--trainer.{name}", type=kind | None, metavar=name.upper(), help=text)
