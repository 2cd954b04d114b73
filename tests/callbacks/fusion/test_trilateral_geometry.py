"""TGeo-KD: what learns, from which data, and what must not notice."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from support import CLASSES, Innocent, ResNetLike, data, difference, make_student, make_teacher, trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_kd import Distillation
from lightning_kd.callbacks.fusion import FusionFit, FusionRatio, FusionStep, TrilateralGeometry, hold_out
from lightning_kd.methods import KD


class Recorded(Dataset[Any]):
    """Remembers which samples were read."""

    def __init__(self, samples: int = 60) -> None:
        self.base = data(samples)
        self.targets = self.base.tensors[1]
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        self.read.add(index)
        return self.base[index]


class Seen(L.Callback):
    """Keeps the batches that the student trains on."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.inputs.append(batch[0])


def train(tgeo: TrilateralGeometry, student: Any = None, /, *, train_data: Any = None, **kwargs: Any) -> Any:
    torch.manual_seed(3)
    student = student or make_student()
    callbacks = [Distillation(make_teacher(), KD()), FusionRatio(tgeo), *kwargs.pop("callbacks", [])]
    loader = DataLoader(train_data or data(60), batch_size=6, shuffle=True)
    run = trainer(callbacks=callbacks, **kwargs)
    run.fit(student, loader)
    return student


@pytest.mark.parametrize("unroll", ["last_layer", "jvp", "full"])
def test_only_gradients_move_the_ratio_network(unroll: Any) -> None:
    gradients: list[Tensor] = []

    class Watched(TrilateralGeometry):
        def _gradients(self, *args: Any) -> list[Tensor]:
            found = super()._gradients(*args)
            gradients.extend(found)
            return found

    # without weight decay Adam stands still where the gradient is zero
    learning = Watched(unroll=unroll, warmup_epochs=1, weight_decay=0.0)
    still = TrilateralGeometry(unroll=unroll, warmup_epochs=9)
    train(learning)
    train(still)
    assert still.network is not None
    assert learning.network is not None
    assert still.state_dict()["updates"] == 0
    assert learning.state_dict()["updates"] == 9
    assert len(gradients) == 9 * 6
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients[-6:])
    assert difference(learning.network, still.network) > 1e-2


@pytest.mark.parametrize("unroll", ["last_layer", "jvp", "full"])
def test_the_student_does_not_notice_the_virtual_steps(unroll: Any) -> None:
    """BatchNorm buffers and the random numbers of noise, dropout and shuffling are those of a run without them."""
    looking = TrilateralGeometry(unroll=unroll, warmup_epochs=0, lr=0.0)
    blind = TrilateralGeometry(unroll=unroll, warmup_epochs=9)
    assert difference(train(looking), train(blind)) == 0.0
    assert looking.state_dict()["updates"] == 18


def test_jvp_equals_full_in_float64() -> None:
    """A student with BatchNorm and dropout, over two epochs."""
    networks, students = [], []
    for unroll in ("jvp", "full"):
        strategy = TrilateralGeometry(unroll=unroll, warmup_epochs=0, weight_decay=0.0)  # type: ignore[arg-type]
        students.append(train(strategy, precision="64-true"))
        networks.append(strategy.network)
    assert networks[0] is not None
    assert networks[1] is not None
    assert next(networks[0].parameters()).dtype is torch.float64
    assert difference(networks[0], networks[1]) < 1e-9
    assert difference(*students) < 1e-9


class Line(L.LightningModule):
    """A linear student: its last layer is all of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, CLASSES))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        weight, bias = self.model[1].parameters()
        return torch.optim.SGD([{"params": [weight], "lr": 0.01}, {"params": [bias], "lr": 0.05}])


def test_last_layer_equals_full_for_a_linear_student() -> None:
    networks = []
    for unroll in ("last_layer", "full"):
        strategy = TrilateralGeometry(unroll=unroll, warmup_epochs=0, weight_decay=0.0)  # type: ignore[arg-type]
        train(strategy, Line(), precision="64-true")
        networks.append(strategy.network)
    assert networks[0] is not None
    assert networks[1] is not None
    assert difference(networks[0], networks[1]) < 1e-9


def test_held_out_samples_are_training_samples_that_the_student_never_sees() -> None:
    training, validation = Recorded(), Recorded()
    strategy, seen = TrilateralGeometry(warmup_epochs=0, fraction=0.2), Seen()
    drawn: set[int] = set()

    class Watched(L.Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
            held_out = strategy._held_out
            assert held_out is not None
            drawn.update(held_out.dataset.indices)

    callbacks = [Distillation(make_teacher(), KD()), FusionRatio(strategy), seen, Watched()]
    run = trainer(callbacks=callbacks, limit_val_batches=0)
    run.fit(make_student(), DataLoader(training, batch_size=6, shuffle=True), DataLoader(validation, batch_size=6))
    assert len(drawn) == 12
    # the whole training set was read, the validation set was not
    assert training.read == set(range(60))
    assert validation.read == set()
    kept = torch.tensor(sorted(set(range(60)) - drawn))
    used = torch.cat(seen.inputs).flatten(1)
    for index, image in enumerate(training.base.tensors[0].flatten(1)):
        assert (used == image).all(1).any().item() == (index not in drawn)
    # the class means are of the samples that are trained on
    images, labels = training.base.tensors
    teacher = make_teacher().eval()
    with torch.no_grad():
        probabilities = teacher(images[kept]).softmax(-1)
    expected = torch.stack([probabilities[labels[kept] == label].mean(0) for label in range(CLASSES)])
    torch.testing.assert_close(strategy.class_means, expected)
    # stratified
    assert torch.equal(
        labels[torch.tensor(sorted(drawn))].bincount(minlength=CLASSES) > 0, labels.bincount(minlength=CLASSES) > 0
    )


def test_given_held_out_samples() -> None:
    whole = Recorded()
    kept, held_out = hold_out(whole, 0.2)
    strategy = TrilateralGeometry(DataLoader(held_out, batch_size=5), warmup_epochs=0)
    train(strategy, train_data=kept)
    assert strategy.state_dict()["updates"] == 16
    with pytest.raises(ValueError, match="among the training data"):
        train(strategy, train_data=whole)
    run = trainer(callbacks=[Distillation(make_teacher(), KD()), FusionRatio(strategy)])
    with pytest.raises(ValueError, match="among the validation data"):
        run.fit(make_student(), DataLoader(kept, batch_size=6), DataLoader(Subset(whole, held_out.indices[:1])))


def test_changed_inputs_are_noticed() -> None:
    with pytest.warns(UserWarning, match="training_step changes the inputs"):
        train(TrilateralGeometry(warmup_epochs=0), max_epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(TrilateralGeometry(warmup_epochs=0, inputs=lambda batch: (batch[0],)), max_epochs=1)
    assert not [each for each in caught if "changes the inputs" in str(each.message)]


class Doubled(ResNetLike):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_last_layer_refusals() -> None:
    student = make_student()
    student.model = Doubled(4)
    with pytest.raises(ValueError, match=r"logits are the output of an nn\.Linear"):
        train(TrilateralGeometry(warmup_epochs=0), student)
    train(TrilateralGeometry(warmup_epochs=0, unroll="jvp"), student, max_epochs=1)

    class Frozen(Innocent):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.model.layer1.parameters(), lr=0.1)

    with pytest.raises(ValueError, match=r"'fc', but no optimizer holds it"):
        train(TrilateralGeometry(warmup_epochs=0), Frozen())
    train(TrilateralGeometry(warmup_epochs=0, unroll="jvp"), Frozen(), max_epochs=1)


@pytest.mark.parametrize("unroll", ["last_layer", "full"])
def test_a_compiled_network(unroll: Any) -> None:
    torch.compiler.reset()
    eager, compiled = make_student(), make_student()
    # compiled code has no second derivative: the virtual student must run eagerly
    compiled.model.compile(backend="aot_eager")
    networks = []
    for student in (eager, compiled):
        strategy = TrilateralGeometry(unroll=unroll, warmup_epochs=0, weight_decay=0.0)
        train(strategy, student, max_epochs=1)
        assert strategy.network is not None
        networks.append(strategy.network)
    assert difference(*networks) < 1e-3


def test_an_overflowing_virtual_step_teaches_nothing() -> None:
    class Broken(TrilateralGeometry):
        def _gradients(self, *args: Any) -> list[Tensor]:
            return [torch.full_like(gradient, float("nan")) for gradient in super()._gradients(*args)]

    strategy = Broken(warmup_epochs=0, weight_decay=0.0)
    train(strategy, max_epochs=1)
    assert strategy.network is not None
    assert all(parameter.isfinite().all() for parameter in strategy.network.parameters())


@pytest.mark.parametrize("decoupled", [True, False])
def test_weight_decay(decoupled: bool) -> None:
    """A student that stands still gives no gradient, so that the weight decay is all there is."""
    strategy = TrilateralGeometry(warmup_epochs=0, lr=0.1, weight_decay=0.05, decoupled=decoupled)
    still = TrilateralGeometry(warmup_epochs=9)
    train(strategy, make_student(lr=0.0), max_epochs=1)
    train(still, make_student(lr=0.0), max_epochs=1)
    assert strategy.network is not None
    assert still.network is not None
    decayed, start = strategy.network[0].weight.detach(), still.network[0].weight.detach()
    if decoupled:
        torch.testing.assert_close(decayed, start * (1 - 0.1 * 0.05) ** 9)
    else:  # Adam's steps have the length of the learning rate, however small the decay
        assert (decayed - start).abs().max() > 0.05


class HalfWrong(nn.Module):
    """A teacher that is sure of the label, except where the last input says that it is sure of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(6.0))

    def forward(self, x: Tensor) -> Tensor:
        label = x[:, :3].argmax(1)
        return self.scale * F.one_hot(torch.where(x[:, 3] > 0, (label + 1) % 3, label), 3)


def test_ratios_turn_away_from_a_teacher_that_is_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 4, generator=generator)
    samples = TensorDataset(x, x[:, :3].argmax(1))

    class Student(Line):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(4, 3)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    strategy = TrilateralGeometry(warmup_epochs=0, lr=0.01, weight_decay=0.0)
    torch.manual_seed(0)
    run = trainer(
        callbacks=[Distillation(HalfWrong(), KD(temperature=1.0, weight=4.0)), FusionRatio(strategy)], max_epochs=5
    )
    run.fit(Student(), DataLoader(samples, batch_size=30, shuffle=True))
    right, wrong = (run.callback_metrics[f"kd/alpha/teacher_{name}"].item() for name in ("right", "wrong"))
    assert right - wrong > 0.3


class Report(L.Callback):
    def __init__(self, strategy: TrilateralGeometry, folder: Path) -> None:
        self.strategy, self.folder = strategy, folder

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        state = self.strategy.state_dict()
        parts = {
            "ratios": torch.cat([value.flatten() for value in state["network"].values()]),
            "means": state["class_means"],
            "student": torch.cat([value.flatten() for value in pl_module.parameters()]),
            "logged": torch.stack(
                [value for name, value in trainer.callback_metrics.items() if name.startswith("kd/alpha")]
            ),
        }
        held_out = self.strategy._held_out
        assert held_out is not None
        content = {name: value.tolist() for name, value in parts.items()}
        content["drawn"] = held_out.indices(0)
        content["updates"] = state["updates"]
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("unroll", ["last_layer", "full"])
def test_two_ranks_stay_equal(unroll: Any, tmp_path: Path) -> None:
    strategy = TrilateralGeometry(unroll=unroll, warmup_epochs=0, weight_decay=0.0, every=2)
    train(strategy, callbacks=[Report(strategy, tmp_path)], strategy="ddp_fork", devices=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first.pop("drawn") != second.pop("drawn")
    assert first == second
    assert first["updates"] > 3


def test_sharding_strategies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.strategies import FSDPStrategy

    run = trainer()
    monkeypatch.setattr(
        run, "_accelerator_connector", type("Connector", (), {"strategy": FSDPStrategy.__new__(FSDPStrategy)})
    )
    distillation = Distillation(make_teacher(), KD())
    with pytest.raises(RuntimeError, match="FSDPStrategy shards them; use DDP"):
        TrilateralGeometry(DataLoader(data(4), batch_size=2)).begin(FusionFit(run, make_student(), distillation.engine))


def test_alpha_has_one_number_a_sample() -> None:
    shapes: set[tuple[int, ...]] = set()

    class Watched(TrilateralGeometry):
        def alpha(self, step: FusionStep) -> Tensor:
            found = super().alpha(step)
            shapes.add(tuple(found.shape))
            return found

    train(Watched(warmup_epochs=0), max_epochs=1)
    assert shapes == {(6,)}
