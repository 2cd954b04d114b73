"""The contract of detection methods: sound ones pass on tiny detectors, broken ones are diagnosed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lightning_kd.detection import DetectionOutput, ground_truth
from lightning_kd.methods import KD, DistillationMethod, discover, family
from lightning_kd.testing import CHECKS, TRAINER_CHECKS, Rig, run_contract
from lightning_kd.testing.rig import inputs_for
from lightning_kd.testing.scenes import TinyDetector
from lightning_kd.testing.training import check_resume, check_two_ranks


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def heads(exchange):
    student, teacher = exchange.student.output.dense, exchange.teacher.output.dense
    if student is None or teacher is None:
        raise ValueError("this method compares one-stage heads, and one of the detectors has none; give two that do")
    if student.num_classes != teacher.num_classes:
        raise ValueError(f"the heads predict {student.num_classes} and {teacher.num_classes} classes; give equal ones")
    return student, teacher


class Maps(DistillationMethod):
    """Squared difference of the pyramids, through a connector."""

    def __init__(self):
        super().__init__(layers="auto")

    def build(self, context):
        pairs = zip(self.student_features(context.exchange), self.teacher_features(context.exchange), strict=True)
        self.connectors = torch.nn.ModuleList(torch.nn.Conv2d(s.shape[1], t.shape[1], 1) for s, t in pairs)

    def forward(self, exchange):
        student, teacher = self.student_features(exchange), self.teacher_features(exchange)
        adapted = [connector(value) for connector, value in zip(self.connectors, student, strict=True)]
        pairs = zip(adapted, teacher, strict=True)
        return torch.stack([F.mse_loss(s.float(), t.detach().float()) for s, t in pairs]).mean()


class Scores(DistillationMethod):
    """Squared difference of the class scores at every position."""

    def forward(self, exchange):
        student, teacher = heads(exchange)
        pairs = zip(student.class_logits, teacher.class_logits, strict=True)
        return torch.stack([self.distance(s, t.detach()) for s, t in pairs]).mean()

    def distance(self, student, teacher):
        return (student.float().sigmoid() - teacher.float().sigmoid()).square().mean()


class Crossed(DistillationMethod):
    """The student's half-way features, finished by the teacher's head, give the teacher's scores."""

    def build(self, context):
        for network in (context.student, *context.teachers):
            network.keep_towers = True

    def forward(self, exchange):
        student, teacher = heads(exchange)
        features = [value.relu() for value in student.towers["classification"][0]]
        finished, _ = teacher.finish("classification", 1, features)
        pairs = zip(finished, teacher.class_logits, strict=True)
        return torch.stack([F.mse_loss(s.float(), t.detach().float()) for s, t in pairs]).mean()


class Foreground(DistillationMethod):
    """Distance to the teacher's boxes where the student is to find one."""

    needs_target = True

    def forward(self, exchange):
        ground_truth(exchange)
        student, teacher = heads(exchange)
        assigned = torch.stack(student.assigned)
        own = torch.cat(student.decode(student.box_regression), dim=1)
        others = torch.cat(teacher.decode(teacher.box_regression), dim=1).detach()
        return self.mean((own - others).abs()[assigned >= 0])

    def mean(self, errors):
        return errors.sum() / max(1, len(errors))


class Proposals(DistillationMethod):
    """Divergence of the classes that both second stages give the student's proposals."""

    needs_target = True

    def forward(self, exchange):
        student, teacher = exchange.student.output.regions, exchange.teacher.output.regions
        if student is None or teacher is None:
            raise ValueError("this method compares second stages, and one of the detectors has none; give two that do")
        if student.proposals is None:
            raise ValueError("the student sampled no proposals; call its network in training mode, with targets")
        if student.num_classes != teacher.num_classes:
            raise ValueError(f"the detectors know {student.num_classes} and {teacher.num_classes} classes")
        with torch.no_grad():
            _, logits = teacher.classify(student.proposals)
        own = student.class_logits.float().log_softmax(dim=1)
        return F.kl_div(own, logits.float().log_softmax(dim=1), log_target=True, reduction="batchmean")


SOUND = [Maps, Scores, Crossed, Foreground, Proposals]


@pytest.mark.parametrize("method", SOUND)
def test_a_sound_method_passes_every_check(method):
    assert {result.name: result.problem for result in run_contract(method, "scenes") if not result.passed} == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", SOUND)
@pytest.mark.parametrize("check", TRAINER_CHECKS)
def test_a_sound_method_passes_the_checks_with_a_trainer(method, check):
    TRAINER_CHECKS[check](method, "scenes")


class Attached(Scores):
    def forward(self, exchange):
        student, teacher = heads(exchange)
        return self.distance(student.class_logits[0], teacher.class_logits[0])


class AttachedProposals(DistillationMethod):
    def forward(self, exchange):
        teacher = exchange.teacher.output.regions
        _, logits = teacher.classify(exchange.student.output.regions.proposals)
        return (exchange.student.output.regions.class_logits - logits).float().square().mean()


class NotScalar(Scores):
    def distance(self, student, teacher):
        return (student - teacher).float().square().mean((0, 2, 3))

    def forward(self, exchange):
        student, teacher = heads(exchange)
        return self.distance(student.class_logits[0], teacher.class_logits[0].detach())


class Swallows(Scores):
    def distance(self, student, teacher):
        return super().distance(student.detach(), teacher) + 0 * student.sum()


class Half(Scores):
    def distance(self, student, teacher):
        return (student - teacher).square().mean()


class NeedsBoxes(Foreground):
    def mean(self, errors):
        return errors.mean()


class Indifferent(Foreground):
    """Says that it needs boxes, and does without."""

    def forward(self, exchange):
        return Scores.forward(self, exchange)

    distance = Scores.distance


class Unguarded(Scores):
    def forward(self, exchange):
        student, teacher = exchange.student.output.dense, exchange.teacher.output.dense
        return self.distance(student.class_logits[0], teacher.class_logits[0].detach())


@pytest.mark.parametrize(
    ("method", "check", "diagnosis"),
    [
        (Attached, "teacher untouched", "detach the teacher"),
        (AttachedProposals, "teacher untouched", "detach the teacher"),
        (NotScalar, "scalar", "must return a scalar tensor"),
        (Swallows, "gradients", "no gradient reaches the student"),
        (Half, "half precision", "at least float32"),
        (NeedsBoxes, "single sample", "the loss is nan for an image without boxes"),
        (Indifferent, "refusals", "given no labels, the method returns .* it declares that it needs it"),
        (Unguarded, "refusals", "given a teacher of other classes, the method fails with RuntimeError"),
        (KD, "scalar", "no logits found in the network's output of type DetectionOutput"),
    ],
)
def test_a_broken_method_is_diagnosed(method, check, diagnosis):
    with pytest.raises((AssertionError, TypeError), match=diagnosis):
        CHECKS[check](method, "scenes")


class SomeClasses(Unguarded):
    def forward(self, exchange):
        if exchange.teacher.output.dense is not None:
            heads(exchange)
        return super().forward(exchange)


def test_a_teacher_of_another_kind_must_be_refused_with_an_explanation():
    with pytest.raises(AssertionError, match="neither a one-stage head nor a second stage, the method fails with Attr"):
        CHECKS["refusals"](SomeClasses, "scenes")


class CountsBoxes(Scores):
    """Keeps a number that differs between ranks."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, exchange):
        self.seen += sum(target["boxes"].sum() for target in exchange.target)
        return super().forward(exchange)


class Forgets(Scores):
    calls = 0

    def forward(self, exchange):
        self.calls += 1
        return super().forward(exchange) * self.calls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "check", "diagnosis"),
    [
        (CountsBoxes, check_two_ranks, r"different values in \['CountsBoxes.seen'\]"),
        (Forgets, check_resume, "a resumed run ends with other values"),
    ],
)
def test_what_goes_wrong_in_training_is_diagnosed(method, check, diagnosis):
    with pytest.raises(AssertionError, match=diagnosis):
        check(method, "scenes")


def test_the_exchange_is_that_of_a_training():
    rig = Rig(Scores, "scenes", dtype=torch.bfloat16)
    exchange = rig.exchange(3)
    images, sizes, targets = exchange.inputs
    assert exchange.target is targets
    assert exchange.batch.keys() == {"images", "sizes", "targets"}
    assert images.dtype == torch.bfloat16
    assert all(target["boxes"].dtype == torch.float32 for target in targets)
    assert isinstance(exchange.student.output, DetectionOutput)
    assert exchange.student.output.losses
    assert exchange.teacher.output.losses == {}
    assert not exchange.teacher.output.dense.class_logits[0].requires_grad
    assert not any(parameter.requires_grad for parameter in rig.teacher.parameters())
    again = exchange.run_teacher(images, sizes, targets).output.dense.class_logits[0]
    assert torch.equal(again, exchange.teacher.output.dense.class_logits[0])


DETECTION = {name: method for name, method in discover().items() if family(method) == "detection"}


@pytest.mark.parametrize("method", [*DETECTION.values(), Foreground])
def test_other_ways_to_code_a_box_work_or_are_refused(method, monkeypatch):
    monkeypatch.setattr("lightning_kd.testing.rig.TinyDetector", lambda channels, kind: TinyDetector(channels))
    try:
        rig = Rig(method, "scenes")
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal and method is not Foreground:
        assert "'retinanet'" in refusal
        return
    assert rig.exchange().student.output.dense.kind == "retinanet"
    for check in ("scalar", "gradients", "perfect student", "half precision", "single sample", "learns"):
        CHECKS[check](method, "scenes")


def test_the_family_decides_what_a_method_is_tried_on():
    assert inputs_for(KD) == inputs_for(Scores) == "images"
    inside = type("Inside", (Scores,), {"__module__": "lightning_kd.methods.detection.inside"})
    assert family(inside) == "detection"
    assert inputs_for(inside) == inputs_for(inside()) == "scenes"
    kinds = {family(method): inputs_for(method) for method in discover().values()}
    assert kinds["logits"] == "images"
    assert kinds["language"] == "tokens"
    assert kinds.get("detection", "scenes") == "scenes"
