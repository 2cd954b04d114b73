import copy

import numpy as np
import pytest
import torch
from torch import nn

from lightning_kd import Distillation, DistillationModule
from lightning_kd.callbacks import FidelityMonitor
from lightning_kd.callbacks._fidelity_metric import CKAMetric, FidelityMetric
from lightning_kd.methods.logits.kd import KD


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student, teacher, target):
    s, t = student.argmax(1), teacher.argmax(1)
    right = t == target
    p = teacher.double().softmax(1)
    return {
        "agreement": (s == t).double().mean().item(),
        "kl": (p * (p.log() - student.double().log_softmax(1))).sum(1).mean().item(),
        "agreement_teacher_right": (s == t)[right].double().mean().item(),
        "agreement_teacher_wrong": (s == t)[~right].double().mean().item(),
    }


def test_metric_equals_the_definitions():
    student, teacher, target = draw(40, 3), draw(40, 3, seed=1), torch.arange(40) % 3
    metric = FidelityMetric()
    for part in torch.arange(40).split(7):
        metric.update(student[part], teacher[part], target[part])
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == pytest.approx(reference(student, teacher, target), rel=1e-6)


def test_what_was_not_seen_is_left_out():
    metric = FidelityMetric()
    logits = draw(5, 3)
    metric.update(logits, logits, None)
    assert metric.compute() == {"agreement": 1.0, "kl": 0.0}
    metric.update(logits, logits, logits.argmax(1))
    assert "agreement_teacher_wrong" not in metric.compute()


def hsic_reference(x, y):
    """The unbiased estimator as a sum over four different samples."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    total = count = 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
                        count += 1
    return total / count


def test_cka_equals_the_sum_over_quadruples():
    x, y = draw(12, 3), draw(12, 4, seed=1) + 0.5 * draw(12, 3) @ draw(3, 4, seed=2)
    metric = CKAMetric()
    pairs = []
    for part in torch.arange(12).split(6):
        metric.update(x[part], y[part])
        pairs.append((x[part].numpy(), y[part].numpy()))
    cross, left, right = (
        sum(hsic_reference(*chosen) for chosen in [(pair[a], pair[b]) for pair in pairs])
        for a, b in ((0, 1), (0, 0), (1, 1))
    )
    assert metric.compute().item() == pytest.approx(cross / np.sqrt(left * right), rel=1e-6)


def test_cka_knows_rotation_scale_and_independence():
    x = draw(400, 5)
    rotation = torch.linalg.qr(draw(5, 5, seed=1)).Q
    same, other = CKAMetric(), CKAMetric()
    same.update(x.float(), 3 * (x @ rotation).float() + 1)
    other.update(x, draw(400, 5, seed=2))
    assert same.compute().item() == pytest.approx(1, abs=1e-4)
    assert abs(other.compute().item()) < 0.1
    tiny = CKAMetric()
    tiny.update(x[:3], x[:3])
    assert tiny.compute().isnan()


@pytest.mark.parametrize("door", ["callback", "wrapper", "given teacher"])
def test_logs_fidelity_of_the_epoch(kit, door):
    student, teacher = kit.Student(), kit.teacher()
    before = copy.deepcopy(teacher.state_dict())
    monitor = FidelityMonitor(teacher if door == "given teacher" else None, layers={"1": "1"})
    module, callbacks = student, [monitor]
    if door == "callback":
        callbacks.append(Distillation(teacher, KD()))
    if door == "wrapper":
        module = DistillationModule(student, teacher, KD())
    trainer = kit.trainer(*callbacks, max_epochs=2)
    trainer.fit(module, kit.loader(), kit.loader(seed=1))
    inputs, target = kit.data(seed=1)
    with torch.no_grad():
        expected = reference(student.model(inputs), teacher(inputs), target)
        alignment = CKAMetric()
        for part in inputs.split(5):
            alignment.update(student.model[:2](part), teacher[:2](part))
    logged = {name.removeprefix("fidelity/"): value.item() for name, value in trainer.callback_metrics.items()}
    assert {name: logged[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert logged["cka/1"] == pytest.approx(alignment.compute().item(), rel=1e-4)
    assert kit.hooks(student, teacher) == 0
    assert "forward" not in vars(teacher)
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_a_compiled_student_is_watched(kit):
    torch.compiler.reset()
    student, teacher = kit.Student(), kit.teacher()
    student.model.compile(backend="eager")
    trainer = kit.trainer(FidelityMonitor(layers={"1": "1"}), Distillation(teacher, KD()), max_epochs=2)
    trainer.fit(student, kit.loader(), kit.loader(seed=1))
    inputs, target = kit.data(seed=1)
    with torch.no_grad():
        expected = reference(student.model(inputs), teacher(inputs), target)
    assert trainer.callback_metrics["fidelity/kl"].item() == pytest.approx(expected["kl"], rel=1e-4)
    assert "fidelity/cka/1" in trainer.callback_metrics


def test_labels_are_not_needed(kit):
    class Unlabelled(kit.Student):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.model(batch)

    trainer = kit.trainer(FidelityMonitor(kit.teacher()))
    (values,) = trainer.validate(Unlabelled(), torch.utils.data.DataLoader(kit.data()[0], batch_size=5), verbose=False)
    assert set(values) == {"fidelity/agreement", "fidelity/kl"}


def test_training_is_left_alone(kit):
    def weights(*monitors):
        torch.manual_seed(3)
        student = kit.Student()
        student.model.insert(2, nn.Dropout(0.5))
        trainer = kit.trainer(Distillation(kit.teacher(), KD()), *monitors, max_epochs=2)
        trainer.fit(student, kit.loader(), kit.loader(seed=1))
        return student.state_dict()

    plain, watched = weights(), weights(FidelityMonitor())
    assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_refusals(kit):
    with pytest.raises(ValueError, match="found no teacher"):
        kit.trainer(FidelityMonitor()).validate(kit.Student(), kit.loader(), verbose=False)
    wide = nn.Linear(6, 9)
    with pytest.raises(ValueError, match="same classes"):
        kit.trainer(FidelityMonitor(wide)).validate(kit.Student(), kit.loader(), verbose=False)
    with pytest.raises(ValueError, match="unknown layer"):
        kit.trainer(FidelityMonitor(kit.teacher(), layers={"layer9": "1"})).validate(
            kit.Student(), kit.loader(), verbose=False
        )


def test_perfect_student(kit):
    student = kit.Student()
    trainer = kit.trainer(FidelityMonitor(copy.deepcopy(student.model), layers={"1": "1"}))
    (values,) = trainer.validate(student, kit.loader(), verbose=False)
    assert values["fidelity/agreement"] == 1
    assert values["fidelity/kl"] == pytest.approx(0, abs=1e-6)
    assert values["fidelity/cka/1"] == pytest.approx(1, abs=1e-5)
