"""A protocol: the frozen recipe under which methods are compared, and its hash.

The hash covers all that a protocol owns: data, pairs, recipes, seeds, metrics. It does not cover titles, and not the
table of methods or which of its rows are run by default: adding a method, or setting another one's hyper-parameters,
must not make the results of the others incomparable. What a method was run with is recorded in its own results instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from kd_bench.errors import UserError
from kd_bench.names import unknown
from kd_bench.recipe import Fraction, NonNegative, Recipe, Spec, TeacherRecipe
from kd_bench.results import PLAIN, Name, Seed, Sha256, TaskName, TeacherKind

ALL = "all"
"""Stands for all rows where rows are chosen."""

Metric = Literal["accuracy", "nll", "ece", "agreement", "ap", "ar"]


class DataSpec(Spec):
    """Where the data comes from.

    Attributes:
        class_path: dotted path of a :class:`kd_bench.data.base.BenchmarkData`; ``class`` in the file.
        parameters: its constructor arguments, such as the split's.
        checksum: what its ``checksum()`` must be.
    """

    class_path: str = Field(alias="class")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    checksum: Sha256


class Pair(Spec):
    """Model names of student and teacher, as :func:`kd_bench.models.create_model` knows them."""

    student: Name
    teacher: Name


class TeacherSource(Spec):
    """A published teacher.

    Attributes:
        source: local path or address, see :func:`kd_bench.models.load_teacher`; ``None`` for ``options`` alone.
        options: constructor arguments, such as torchvision's ``weights``, which the library itself downloads.
        sha256: hash of the file, or at least its first eight digits; ``None`` while nobody has pinned it.
        accuracy: test accuracy (AP of a detector) that its authors report, or ``None``. It is measured anew before the
            first run.
        finetune: whether this is only where the protocol's ``teacher_recipe`` starts.
    """

    source: str | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    accuracy: Fraction | None = None
    finetune: bool = False

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> Self:
        if self.source is None and not self.options:
            raise ValueError("give a source, or options with which the library brings the weights")
        return self


class Start(Spec):
    """How a student starts, where that is not with random weights.

    Attributes:
        options: constructor arguments with which the library itself brings weights, such as torchvision's
            ``backbone_weights``.
        inherits: whether it takes over from its teacher all but the backbone, as far as names and shapes agree.
    """

    options: dict[str, JsonValue] = Field(default_factory=dict)
    inherits: bool = False


class TrainerSpec(Spec):
    """How a run uses the machine. Not part of the recipe, whose batch size is that of all devices together.

    Attributes:
        accelerator: Lightning's accelerator; ``None`` for the protocol's.
        strategy: Lightning's strategy.
        devices: number of devices.
        compile: whether the student is compiled by ``torch.compile``.
        channels_last: whether images and convolutions are laid out channels last.
        sync_batchnorm: whether batch normalization counts the samples of all devices.
        loader_workers: processes that prepare batches; ``None`` for what suits the data.
    """

    accelerator: Literal["cpu", "gpu", "auto"] | None = None
    strategy: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "auto"
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    compile: bool = False
    channels_last: bool = False
    sync_batchnorm: bool = False
    loader_workers: Annotated[int, Field(ge=0, le=1024)] | None = None


class FusionSpec(Spec):
    """Sample-wise ratios between the task and the distillation loss; see :class:`~lightning_kd.callbacks.FusionRatio`.

    Attributes:
        class_path: name in ``lightning_kd.callbacks`` or dotted path of a strategy; ``class`` in the file.
        parameters: its constructor arguments.
        hold_out: share of the training split that the student is not trained on and the strategy gets as
            ``validation``, for strategies that learn.
    """

    class_path: str = Field(alias="class")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    hold_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class MethodRow(Spec):
    """A row of the table: a method and its hyper-parameters, the same for all pairs.

    Attributes:
        class_path: name in ``lightning_kd.methods`` or dotted path; ``None`` for the plain student; ``class`` in the
            file.
        parameters: constructor arguments; ``alpha: auto`` of guided self-distillation is chosen in each run on the
            validation split.
        warmup: number of epochs in which the method's weight rises linearly: ``min(epoch / warmup, 1)``, with the first
            epoch counted as 1.
        warmup_steps: the same in optimizer steps, with the first counted as 0.
        task_weight: factor of the student's own loss; without meaning under a fusion.
        teacher: who teaches, unless the method needs nobody. ``trained``: the pair's teacher; ``scratch``: a new
            network of the teacher's architecture, ``student``: one of the student's, both for methods that train it
            along; ``previous``: the plain student of this seed, trained first.
        fusion: sample-wise ratios in place of the fixed weights.
        pairs: pair name → constructor arguments that differ there; only in a protocol whose track is ``tuned``.
        only_on: the pairs whose networks the method is made for; all of them if empty.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"pairs", "warmup", "warmup_steps", "only_on"})

    class_path: str | None = Field(default=None, alias="class")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    warmup: Annotated[int, Field(ge=0)] = 0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    task_weight: NonNegative = 1.0
    teacher: TeacherKind = "trained"
    fusion: FusionSpec | None = None
    pairs: dict[Name, dict[str, JsonValue]] = Field(default_factory=dict)
    only_on: tuple[Name, ...] = ()

    def runs_on(self, pair: str) -> bool:
        """Whether the row is there for ``pair``."""
        return not self.only_on or pair in self.only_on

    def on(self, pair: str) -> MethodRow:
        """The row with the hyper-parameters of ``pair``."""
        if pair not in self.pairs:
            return self
        return self.model_copy(update={"parameters": {**self.parameters, **self.pairs[pair]}, "pairs": {}})

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        settings = self.model_fields_set - {"class_path"}
        if self.class_path is None and settings:
            raise ValueError(f"a row without a class is the plain student, which takes no {min(settings)}")
        if self.warmup and self.warmup_steps:
            raise ValueError("a weight warms up either over epochs (warmup) or over steps (warmup_steps)")
        if self.fusion is not None and "task_weight" in self.model_fields_set:
            raise ValueError("a fusion weighs the student's own loss itself; leave task_weight out")
        return self


class Protocol(Spec):
    """A frozen recipe; see the module.

    Attributes:
        id: name with a version, for example ``digits-v1``.
        title: one line.
        description: what it is for and where its choices come from.
        task: kind of problem; decides how models are trained and scored.
        accelerator: ``cpu`` where the recipe is meant for it, else ``auto``.
        data: the data set, its split and augmentation.
        pairs: pair name → student and teacher.
        teacher_recipe: how teachers are trained on the spot; ``None`` if all are published.
        student_recipe: how students are trained, with every method.
        student_recipes: student → recipe, where a student has its own.
        students: student → how it starts, where that is not with random weights.
        teachers: teacher → where its published weights are; the others are trained.
        track: ``general``: one set of hyper-parameters for all pairs; ``tuned``: one for each pair.
        trainer: how runs use the machine unless asked otherwise; not part of the hash.
        reported: name of the table of reported figures that is shown beside the results.
        methods: row name → method.
        core: names of the rows that are run unless others are asked for; all of them if empty.
        seeds: the seeds of a run set.
        metrics: what is measured on the test split after the last epoch.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"student_recipes", "students", "teachers", "track"})

    id: Name
    title: str
    description: str = ""
    task: TaskName
    accelerator: Literal["cpu", "auto"] = "auto"
    data: DataSpec
    pairs: Annotated[dict[Name, Pair], Field(min_length=1)]
    teacher_recipe: TeacherRecipe | None = None
    student_recipe: Recipe
    student_recipes: dict[Name, Recipe] = Field(default_factory=dict)
    students: dict[Name, Start] = Field(default_factory=dict)
    teachers: dict[Name, TeacherSource] = Field(default_factory=dict)
    track: Literal["general", "tuned"] = "general"
    trainer: TrainerSpec = TrainerSpec()
    reported: Name | None = None
    methods: Annotated[dict[Name, MethodRow], Field(min_length=1)]
    core: tuple[Name, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if list(seeds) != sorted(set(seeds)):
            raise ValueError(f"seeds must be distinct and ascending, got {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _only_plain_has_no_class(self) -> Self:
        for name, row in self.methods.items():
            if (row.class_path is None) != (name == PLAIN):
                raise ValueError(f"methods.{name}: the row {PLAIN!r}, and only it, has no class")
        return self

    @model_validator(mode="after")
    def _names_of_rows(self) -> Self:
        if ALL in self.methods:
            raise ValueError(f"methods.{ALL}: this name stands for all rows; give the row another one")
        if unknown_rows := set(self.core) - set(self.methods):
            raise ValueError(f"core names {', '.join(sorted(unknown_rows))}, which methods does not have")
        return self

    @model_validator(mode="after")
    def _every_teacher_comes_from_somewhere(self) -> Self:
        teachers = {pair.teacher for pair in self.pairs.values()}
        finished = {name for name, source in self.teachers.items() if not source.finetune}
        if (missing := teachers - finished) and self.teacher_recipe is None:
            raise ValueError(f"teachers.{min(missing)}: give a source that needs no training, or a teacher_recipe")
        if unused := self.teachers.keys() - teachers:
            raise ValueError(f"teachers.{min(unused)}: no pair has this teacher")
        students = {pair.student for pair in self.pairs.values()}
        for name, known in (("student_recipes", self.student_recipes), ("students", self.students)):
            if unused := known.keys() - students:
                raise ValueError(f"{name}.{min(unused)}: no pair has this student")
        return self

    @model_validator(mode="after")
    def _pairs_of_rows(self) -> Self:
        for name, row in self.methods.items():
            if row.pairs and self.track != "tuned":
                raise ValueError(f"methods.{name}.pairs: hyper-parameters for each pair need track: tuned")
            if unknown_pairs := row.pairs.keys() - self.pairs.keys():
                raise ValueError(f"methods.{name}.pairs.{min(unknown_pairs)}: there is no such pair")
            if unknown_pairs := set(row.only_on) - self.pairs.keys():
                raise ValueError(f"methods.{name}.only_on: there is no pair {min(unknown_pairs)}")
        return self

    @property
    def hash(self) -> str:
        """sha256 of everything that the protocol owns, in canonical JSON."""
        apart = {"id", "title", "description", "methods", "core", "trainer", "reported"}
        return json_sha256(self.model_dump(mode="json", exclude=apart))

    def start_of(self, student: str) -> Start:
        """How the student of that name starts."""
        return self.students.get(student, Start())

    def recipe_for(self, student: str) -> Recipe:
        """How the student of that name is trained."""
        return self.student_recipes.get(student, self.student_recipe)


def json_sha256(value: Any) -> str:
    """sha256 of a value as canonical JSON: sorted keys, no spaces, finite numbers.

    >>> json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_protocol(text: str, source: str, files: Mapping[str, str] | None = None) -> Protocol:
    """Validate a protocol file.

    Args:
        text: YAML. ``extends: <id>`` takes over what another protocol says and this one does not, key by key of the top
            level.
        source: where it came from, for the error.
        files: id → text of the protocols that can be extended.

    Raises:
        UserError: if it is not YAML or does not describe a protocol.
    """
    try:
        # by way of JSON, whose strict validation takes lists for tuples but no strings for numbers
        return Protocol.model_validate_json(json.dumps(_read(text, files or {})))
    except (yaml.YAMLError, TypeError) as error:
        raise UserError(f"{source} is not a YAML file of plain values: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise UserError(f"{source} is not a valid protocol: {problems}") from error


def _read(text: str, files: Mapping[str, str]) -> Any:
    content = yaml.safe_load(text)
    if isinstance(content, dict) and "extends" in content:
        base = content.pop("extends")
        if base not in files:
            raise unknown("protocol to extend", base, sorted(files))
        others = {name: file for name, file in files.items() if name != base}
        content = {**_read(files[base], others), **content}
    return content


@cache
def _shipped() -> dict[str, Protocol]:
    folder = resources.files("kd_bench") / "protocols"
    texts = {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    found = {}
    for name in sorted(texts):
        protocol = parse_protocol(texts[name], f"{name}.yaml", texts)
        if name != protocol.id:
            raise UserError(f"{name}.yaml describes the protocol {protocol.id!r}; the names must agree")
        found[protocol.id] = protocol
    return found


def list_protocols() -> list[Protocol]:
    """The protocols that come with the package, by id."""
    return list(_shipped().values())


def load_protocol(protocol_id: str) -> Protocol:
    """The protocol ``protocol_id``.

    Raises:
        UserError: if there is none; the message lists those there are.
    """
    shipped = _shipped()
    if protocol_id not in shipped:
        raise unknown("protocol", protocol_id, list(shipped))
    return shipped[protocol_id]
