"""What a benchmark writes: one JSON file per run set (the seeds of one method on one pair under one protocol).

Accuracies, precisions, errors and agreements are fractions in ``[0, 1]``. Only measurements are stored; means,
intervals, gaps and ranks are derived by :mod:`kd_bench.statistics` and never written down.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

PLAIN = "plain"
"""Name of the row without distillation."""

TeacherKind = Literal["trained", "scratch", "student", "previous"]
"""Who teaches: the pair's teacher, a new network of its or of the student's architecture, or the plain student."""

TaskName = Literal["classification", "detection"]

Verification = Literal["claimed", "predictions checked", "checkpoint re-evaluated", "retrained"]

Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+-]*$")]
Text = Annotated[str, Field(max_length=500)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Licence = Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+ ()-]*$")]
FileName = Annotated[str, Field(max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.npz$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _small_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(json.dumps(value, allow_nan=False))
    except ValueError:
        raise ValueError("numbers must be finite") from None
    if size > 20_000:
        raise ValueError(f"at most 20,000 characters of JSON are allowed, got {size}")
    return value


class Record(BaseModel):
    """Base of everything that is stored: frozen, strict about types, no unknown keys, finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ProtocolRef(Record):
    """The protocol that a result was made under.

    Attributes:
        id: for example ``digits-v1``.
        hash: sha256 of the resolved recipe; two results are comparable only if it is the same.
    """

    id: Name
    hash: Sha256


class CitationInfo(Record):
    """Where a method was published."""

    title: Text
    authors: Text
    venue: Text
    year: Annotated[int, Field(ge=1900, le=2200)]
    arxiv: Annotated[str, Field(max_length=40)] | None = None


class FusionInfo(Record):
    """How task and distillation loss were weighed sample by sample.

    Attributes:
        class_path: dotted path of the strategy's class.
        parameters: all constructor arguments, defaults included, but for the held-out samples themselves.
        hold_out: share of the training split that the student was not trained on.
        source_sha256: hash of the one file that defines the class.
    """

    class_path: Text
    parameters: Annotated[dict[str, JsonValue], AfterValidator(_small_json)]
    hold_out: Fraction
    source_sha256: Sha256


class MethodInfo(Record):
    """The method of a run set, exactly as it was run.

    Attributes:
        name: row name, for example ``DKD``; :data:`PLAIN` for the student without distillation.
        class_path: dotted path of the method's class; ``None`` for the plain student.
        parameters: all constructor arguments, defaults included.
        task_weight: factor of the student's own loss.
        warmup: epochs in which the method's weight rises linearly.
        warmup_steps: the same in optimizer steps.
        teacher: who taught; ``none`` for the plain student and methods without a teacher.
        fusion: what weighed the losses in place of ``task_weight``; ``None`` for fixed weights.
        source_sha256: hash of the one file that defines the class; ``None`` for the plain student.
        package_version: version of ``lightning_kd``.
        git_revision: commit of the checkout that ran it; ``None`` outside a checkout.
        git_dirty: whether the checkout had uncommitted changes; ``None`` outside a checkout.
        citation: the paper.
        licence: SPDX identifier of the licence that the method's file is under, for example ``Apache-2.0``.
    """

    name: Name
    class_path: Text | None
    parameters: Annotated[dict[str, JsonValue], AfterValidator(_small_json)]
    task_weight: Annotated[float, Field(ge=0.0)]
    source_sha256: Sha256 | None
    package_version: Text
    git_revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None = None
    git_dirty: bool | None = None
    citation: CitationInfo | None = None
    teacher: TeacherKind | Literal["none"] = "trained"
    fusion: FusionInfo | None = None
    warmup: Count = 0
    warmup_steps: Count = 0
    licence: Licence | None = None


class TeacherInfo(Record):
    """The trained teacher of a run set's pair: who taught, or, where somebody else did, what to compare with.

    Attributes:
        name: model name.
        weights_sha256: hash of its weights file.
        accuracy: its test accuracy as measured by the benchmark itself.
        parameters: number of parameters.
    """

    name: Name
    weights_sha256: Sha256
    accuracy: Fraction
    parameters: Count

    @property
    def headline(self) -> float:
        """What it is compared by."""
        return self.accuracy


class DetectionTeacherInfo(Record):
    """The trained teacher of a pair of detectors.

    Attributes:
        name: model name.
        weights_sha256: hash of its weights file.
        ap: its test AP as measured by the benchmark itself.
        parameters: number of parameters.
        truth_sha256: hash of the test annotations that it was scored against, as were the students; a protocol's
            checksum need not cover them. ``None`` in older results.
    """

    name: Name
    weights_sha256: Sha256
    ap: Fraction
    parameters: Count
    truth_sha256: Sha256 | None = None

    @property
    def headline(self) -> float:
        """What it is compared by."""
        return self.ap


class StudentInfo(Record):
    """The student of a run set: model name and number of parameters.

    Connectors are not included, unless the student cannot predict without them.
    """

    name: Name
    parameters: Count


class Environment(Record):
    """Software and hardware that a run set was made with; ``threads`` is per run."""

    python: Text
    torch: Text
    lightning: Text
    lightning_kd: Text
    platform: Text
    cpu: Text
    threads: Annotated[int, Field(ge=1)]


class Scores(Record):
    """Test scores after the last epoch.

    Attributes:
        accuracy: top-1 accuracy; the headline.
        nll: mean negative log-likelihood in nats.
        ece: expected calibration error, 15 equal-width bins.
        agreement: share of test samples on which student and the pair's trained teacher predict the same class.
    """

    accuracy: Fraction
    nll: Annotated[float, Field(ge=0.0)]
    ece: Fraction
    agreement: Fraction

    @property
    def headline(self) -> float:
        """What methods are ranked by."""
        return self.accuracy


class DetectionScores(Record):
    """Test scores of a detector after the last epoch: COCO's twelve numbers.

    Attributes:
        ap: average precision, mean over classes and IoUs from 0.5 to 0.95; the headline.
        ap_50: at an IoU of 0.5.
        ap_75: at an IoU of 0.75.
        ap_small: of objects below 32² pixels; ``None`` where the test set has none.
        ap_medium: of objects from 32² to 96² pixels.
        ap_large: of objects above 96² pixels.
        ar_1: average recall with one detection of a class in an image.
        ar_10: with ten.
        ar_100: with a hundred.
        ar_small: of small objects, with a hundred.
        ar_medium: of medium objects.
        ar_large: of large objects.
    """

    ap: Fraction
    ap_50: Fraction
    ap_75: Fraction
    ap_small: Fraction | None
    ap_medium: Fraction | None
    ap_large: Fraction | None
    ar_1: Fraction
    ar_10: Fraction
    ar_100: Fraction
    ar_small: Fraction | None
    ar_medium: Fraction | None
    ar_large: Fraction | None

    @property
    def headline(self) -> float:
        """What methods are ranked by."""
        return self.ap


class Best(Record):
    """Highest test accuracy of any epoch (from 0). Stored, never ranked: it is chosen by looking at the test set."""

    accuracy: Fraction
    epoch: Count


class Curve(Record):
    """One value per epoch: accuracy on the validation split, and mean training loss (all terms).

    Without a validation split, where the whole training set is trained on, ``validation_accuracy`` is ``None``.
    """

    validation_accuracy: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=10_000)] | None
    train_loss: Annotated[tuple[float, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if self.validation_accuracy is not None and len(self.validation_accuracy) != len(self.train_loss):
            raise ValueError(
                f"both curves need one value per epoch, got {len(self.validation_accuracy)} and {len(self.train_loss)}"
            )
        return self

    @property
    def validation(self) -> tuple[float, ...] | None:
        """The headline of every epoch on the validation split."""
        return self.validation_accuracy


class DetectionCurve(Record):
    """One value per epoch of a detector: AP on the validation split, if there is one, and mean training loss."""

    validation_ap: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=10_000)] | None
    train_loss: Annotated[tuple[float, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if self.validation_ap is not None and len(self.validation_ap) != len(self.train_loss):
            raise ValueError(
                f"both curves need one value per epoch, got {len(self.validation_ap)} and {len(self.train_loss)}"
            )
        return self

    @property
    def validation(self) -> tuple[float, ...] | None:
        """The headline of every epoch on the validation split."""
        return self.validation_ap


class Run(Record):
    """One training of one student.

    Attributes:
        seed: determines initialization, order of the data and augmentation.
        last: test scores after the last epoch.
        best: highest test accuracy of any epoch; ``None`` for detectors, which are tested once, after the last epoch.
        curve: how training went.
        predictions_file: file beside the run set with the test predictions; see :mod:`kd_bench.predictions`.
        predictions_sha256: hash of that file.
        seconds: wall time of the training, evaluation included; with a teacher ``previous`` of all trainings.
        peak_memory_mb: peak memory in MiB (resident set on a CPU, allocated memory on a GPU); ``None`` if unknown.
        device: for example ``cpu`` or the name of the GPU.
        extra_parameters: parameters that were trained only for the distillation (connectors, peers).
        chosen: hyper-parameters that were chosen in this run, on the validation split.
        taps: the layers whose features were compared, of student and teacher.
        trainer: how the machine was used, where that differs from one device and Lightning's own choices.
        weights_sha256: hash of the student's weights as safetensors, if they were kept; see :mod:`kd_bench.weights`.
    """

    seed: Seed
    last: Scores | DetectionScores
    best: Best | None
    curve: Curve | DetectionCurve
    predictions_file: FileName
    predictions_sha256: Sha256
    seconds: Positive
    peak_memory_mb: Positive | None
    device: Text
    extra_parameters: Count
    chosen: Annotated[dict[Name, float], Field(max_length=20)] = Field(default_factory=dict)
    taps: Annotated[tuple[tuple[Text, Text], ...], Field(max_length=200)] = ()
    trainer: Annotated[dict[Name, str | int | bool | None], Field(max_length=20)] = Field(default_factory=dict)
    weights_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _of_one_task(self) -> Self:
        if isinstance(self.last, Scores):
            if self.best is None or not isinstance(self.curve, Curve):
                raise ValueError("the run of a classifier has a best epoch and a curve of accuracies")
        elif self.best is not None or not isinstance(self.curve, DetectionCurve):
            raise ValueError("the run of a detector has a curve of average precisions and no best epoch")
        return self

    @model_validator(mode="after")
    def _best_is_best(self) -> Self:
        if self.best is None or not isinstance(self.last, Scores):
            return self
        epochs = len(self.curve.train_loss)
        if self.best.epoch >= epochs:
            raise ValueError(f"best.epoch is {self.best.epoch}, but the curve has only {epochs} epochs")
        if self.best.accuracy < self.last.accuracy:
            raise ValueError(
                f"best.accuracy ({self.best.accuracy}) is below last.accuracy ({self.last.accuracy}); the best epoch "
                "is chosen among all epochs, the last included"
            )
        return self


class RunSet(Record):
    """The runs (seeds) of one method on one pair under one protocol.

    Attributes:
        extra_data: whether anything but the protocol's training split was used.
        track: ``general``: one set of hyper-parameters for all pairs; ``tuned``: one for each pair.
        contact: whom to ask about the result: a name, an address, or a GitHub handle.
        verification: how far the numbers were checked when the file was written, which is not at all. What was checked
            since is recorded beside it; see :mod:`kd_bench.verification.record`.
    """

    schema_version: Literal[1] = 1
    protocol: ProtocolRef
    method: MethodInfo
    teacher: TeacherInfo | DetectionTeacherInfo
    student: StudentInfo
    track: Literal["general", "tuned"] = "general"
    environment: Environment
    runs: Annotated[tuple[Run, ...], Field(min_length=1, max_length=1000)]
    extra_data: bool = False
    contact: Text | None = None
    verification: Verification = "claimed"

    @model_validator(mode="after")
    def _one_run_per_seed(self) -> Self:
        seeds = [run.seed for run in self.runs]
        if seeds != sorted(set(seeds)):
            raise ValueError(f"runs must be sorted by seed, one run a seed, got seeds {seeds}")
        return self

    @model_validator(mode="after")
    def _of_one_task(self) -> Self:
        if len({isinstance(run.last, Scores) for run in self.runs} | {isinstance(self.teacher, TeacherInfo)}) > 1:
            raise ValueError("teacher and runs must be of one task, either classification or detection")
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(run.seed for run in self.runs)

    @property
    def pair(self) -> str:
        """Directory name of the pair, ``<student>__<teacher>``."""
        return pair_slug(self.student.name, self.teacher.name)

    @property
    def task(self) -> TaskName:
        """What the networks do."""
        return "classification" if isinstance(self.teacher, TeacherInfo) else "detection"

    def headlines(self) -> list[float]:
        """Last-epoch test accuracies, or APs of detectors, in the order of :attr:`seeds`."""
        return [run.last.headline for run in self.runs]

    def classification_scores(self) -> list[Scores]:
        """The scores of classifiers, in the order of :attr:`seeds`; empty for detectors."""
        return [run.last for run in self.runs if isinstance(run.last, Scores)]

    def detection_scores(self) -> list[DetectionScores]:
        """The scores of detectors, in the order of :attr:`seeds`; empty for classifiers."""
        return [run.last for run in self.runs if isinstance(run.last, DetectionScores)]


def slug(name: str) -> str:
    """``name`` as a directory name: prefixes and slashes of model names become dashes."""
    return name.replace(":", "-").replace("/", "-")


def pair_slug(student: str, teacher: str) -> str:
    """Directory name of a pair."""
    return f"{slug(student)}__{slug(teacher)}"
