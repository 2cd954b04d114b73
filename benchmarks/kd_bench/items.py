"""The work item of a benchmark: one training. Idempotent: its files are there and whole, or it is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from kd_bench.data.base import open_data
from kd_bench.environment import describe_environment
from kd_bench.errors import UserError
from kd_bench.fusion import create_strategy
from kd_bench.layout import LOGS, RUNS, STATES, WEIGHTS, item_file
from kd_bench.options import RunOptions
from kd_bench.protocol import MethodRow, Pair, Protocol, TrainerSpec, json_sha256
from kd_bench.recipe import Recipe
from kd_bench.results import (
    DetectionTeacherInfo,
    Environment,
    MethodInfo,
    ProtocolRef,
    Record,
    Run,
    Sha256,
    StudentInfo,
    TeacherInfo,
)
from kd_bench.rows import create_method, describe_method
from kd_bench.run_set_files import run_set_path
from kd_bench.storage import file_sha256, read_model
from kd_bench.tasks.registry import task_named
from kd_bench.training.machine import check_machine


class ItemResult(Record):
    """One finished training; :mod:`kd_bench.collect` gathers those of a run set.

    Attributes:
        fingerprint: of the item that it belongs to.
    """

    schema_version: Literal[1] = 1
    fingerprint: Sha256
    protocol: ProtocolRef
    method: MethodInfo
    teacher: TeacherInfo | DetectionTeacherInfo
    student: StudentInfo
    environment: Environment
    run: Run


@dataclass(frozen=True)
class Item:
    """One method on one pair with one seed.

    Attributes:
        protocol: the recipe.
        pair_name: name of the pair in the protocol.
        method_name: name of the row in the protocol.
        seed: the seed.
        output: the benchmark's output directory.
        options: how it is done.
    """

    protocol: Protocol
    pair_name: str
    method_name: str
    seed: int
    output: Path
    options: RunOptions = field(default_factory=RunOptions)

    def __str__(self) -> str:
        pair = f" on {self.pair_name}" if len(self.protocol.pairs) > 1 else ""
        return f"{self.method_name}{pair}, seed {self.seed}"

    @property
    def key(self) -> tuple[str, str, int]:
        """Tells the items of one benchmark apart."""
        return self.pair_name, self.method_name, self.seed

    @property
    def pair(self) -> Pair:
        """Student and teacher."""
        return self.protocol.pairs[self.pair_name]

    @property
    def row(self) -> MethodRow:
        """The method and its hyper-parameters on this pair."""
        return self.protocol.methods[self.method_name].on(self.pair_name)

    @property
    def recipe(self) -> Recipe:
        """How the student is trained."""
        return self.protocol.recipe_for(self.pair.student)

    @cached_property
    def method(self) -> MethodInfo:
        """The method as the results describe it."""
        return describe_method(self.method_name, self.row)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the numbers; a finished item with another fingerprint is done again.

        Besides the protocol that is the method with its parameters, teacher, fusion and source files, the versions of
        the libraries that compute, and the use of several devices; not the machine.
        """
        environment = describe_environment()
        decisive = {"name", "class_path", "parameters", "task_weight", "teacher", "fusion", "source_sha256"}
        method = self.method.model_dump(mode="json", include=decisive)
        decides: dict[str, object] = {
            "protocol": self.protocol.hash,
            "pair": self.pair.model_dump(mode="json"),
            "method": method,
            "seed": self.seed,
            "versions": [environment.torch, environment.lightning, environment.lightning_kd],
        }
        if self.row.warmup:
            decides["warmup"] = self.row.warmup
        if self.row.warmup_steps:
            decides["warmup_steps"] = self.row.warmup_steps
        if self.protocol.trainer != TrainerSpec():
            decides["trainer"] = self.protocol.trainer.model_dump(mode="json")
        return json_sha256(decides)

    @property
    def run_set(self) -> Path:
        """Where the run set goes that this item belongs to; the predictions lie beside it."""
        return run_set_path(
            self.output / "results", self.protocol.id, self.method_name, self.pair.student, self.pair.teacher
        )

    @property
    def predictions(self) -> Path:
        """Where the item's test predictions go."""
        return self.run_set.with_name(f"seed-{self.seed}.npz")

    @property
    def weights(self) -> Path:
        """Where the trained student goes if it is kept; see :mod:`kd_bench.weights`."""
        return self._place(WEIGHTS, "safetensors")

    @property
    def result(self) -> Path:
        """Where the item's result goes; it is written last, so its presence says that the item is finished."""
        return self._place(RUNS, "json")

    @property
    def log(self) -> Path:
        """Where the output of the training goes, attempt by attempt, with the traceback of those that failed."""
        return self._place(LOGS, "log")

    @property
    def state(self) -> Path:
        """Where those who work on the item say how far they are; see :mod:`kd_bench.state`."""
        return self._place(STATES, "json")

    @property
    def curves(self) -> Path:
        """Folder where the numbers of every epoch go, attempt by attempt."""
        return self.log.with_suffix("")

    @property
    def checkpoints(self) -> Path:
        """Folder of what the training goes on from if it is interrupted; gone once the item is finished."""
        return self._place("checkpoints", "ckpt").with_suffix("")

    def check(self) -> None:
        """Find out early whether the protocol makes sense: method, models and data can be created and trained.

        Raises:
            UserError: if one cannot.
        """
        create_method(self.row)
        check_machine(self.protocol.trainer, self.protocol.accelerator, self.recipe.batch_size, self.row)
        if self.row.fusion is not None:
            create_strategy(self.row.fusion)
        data = open_data(self.protocol.data, self.recipe, self.seed)
        if data.task != self.protocol.task:
            raise UserError(
                f"{self.protocol.id} has task: {self.protocol.task}, but {self.protocol.data.class_path} is data for "
                f"{data.task}; set task: {data.task}, or choose other data"
            )
        task = task_named(self.protocol.task)
        task.check_row(self.method_name, self.row, data)
        for name in (self.pair.student, self.pair.teacher):
            task.create(name, data)

    def load(self) -> ItemResult | None:
        """The item's result, or ``None`` while it is to be done, be it for the weights that are asked for now.

        Raises:
            UserError: if the result file is corrupt.
        """
        found = self.measured()
        if found is not None and self.options.keep_weights and not self._has_weights(found.run.weights_sha256):
            return None
        return found

    def measured(self) -> ItemResult | None:
        """The item's result, with or without weights, or ``None`` while there is none.

        Raises:
            UserError: if the result file is corrupt.
        """
        if not self.result.exists():
            return None
        found = read_model(self.result, ItemResult)
        if found.fingerprint != self.fingerprint:
            return None
        if not self.predictions.exists() or file_sha256(self.predictions) != found.run.predictions_sha256:
            return None
        return found

    def _has_weights(self, sha256: str | None) -> bool:
        return sha256 is not None and self.weights.is_file() and file_sha256(self.weights) == sha256

    def _place(self, kind: str, extension: str) -> Path:
        pair = self.pair
        return item_file(
            self.output, kind, self.protocol.id, self.method_name, pair.student, pair.teacher, self.seed, extension
        )
