"""Door 1 runs every hook that a student overrides, in the order in which the Trainer would call them on the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from support import ResNetLike, data, loader, make_teacher, trainer
from torch.utils.data import DataLoader

from lightning_kd import DistillationModule
from lightning_kd.methods import KD

HOOKS = [
    name
    for name in dir(L.LightningModule)
    if name.startswith("on_") and callable(getattr(L.LightningModule, name)) and name != "on_gpu"
] + [
    *("setup", "teardown", "configure_model", "prepare_data", "backward", "optimizer_step", "optimizer_zero_grad"),
    *("lr_scheduler_step", "configure_gradient_clipping", "transfer_batch_to_device"),
]


def recording(name: str) -> Any:
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.heard.append(name)
        return getattr(L.LightningModule, name)(self, *args, **kwargs)

    hook.__name__ = name
    if name == "optimizer_step":
        # Lightning looks at this signature
        def optimizer_step(
            self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
        ) -> None:
            self.heard.append(name)
            L.LightningModule.optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure)

        return optimizer_step
    return hook


class Listens(L.LightningModule):
    """Overrides every hook there is, and every step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ResNetLike(dropout=0.0)
        self.heard: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("train/loss", loss := F.cross_entropy(self.model(batch[0]), batch[1]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self.model(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/loss", F.cross_entropy(self.model(batch[0]), batch[1]))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.model(batch[0]).argmax(-1)

    def train_dataloader(self) -> Any:
        return loader(8)

    def val_dataloader(self) -> Any:
        return loader(8)

    test_dataloader = predict_dataloader = val_dataloader

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def configure_callbacks(self) -> list[Callback]:
        self.heard.append("configure_callbacks")
        return []


for _name in HOOKS:
    setattr(Listens, _name, recording(_name))


def run_everything(module: Any, student: Listens, folder: Path) -> tuple[list[str], Any, Any]:
    run = trainer(folder, gradient_clip_val=1.0, enable_checkpointing=True, num_sanity_val_steps=1)
    run.fit(module)
    run.validate(module, verbose=False)
    tested = run.test(module, verbose=False)
    predicted = run.predict(module)
    return student.heard, tested, predicted


def test_every_hook_is_delegated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = Listens()
    torch.manual_seed(0)
    wrapped = Listens()
    module = DistillationModule(wrapped, make_teacher(), KD(weight=0.0))
    expected, tested, predicted = run_everything(alone, alone, tmp_path / "alone")
    heard, tested_too, predicted_too = run_everything(module, wrapped, tmp_path / "wrapped")
    # batch transfer also serves the dry run, where methods need one; KD needs none
    assert heard == expected
    assert tested == tested_too
    assert all(torch.equal(a, b) for a, b in zip(predicted, predicted_too, strict=True))
    never = set(HOOKS) - set(heard)
    assert never <= {
        *("on_gpu", "on_load_checkpoint", "on_validation_model_zero_grad"),
        *("on_test_model_train", "on_test_model_eval", "on_predict_model_train", "on_predict_model_eval"),
    }, never


def test_the_students_own_callbacks_are_attached(tmp_path: Path) -> None:
    class Mark(Callback):
        started = 0

        def on_train_start(self, *args: Any) -> None:
            self.started += 1

    mark = Mark()
    student = Listens()
    student.configure_callbacks = lambda: [mark]
    trainer(tmp_path, max_epochs=1).fit(DistillationModule(student, make_teacher(), KD()))
    assert mark.started == 1


def test_a_students_hyperparameters_and_example_are_the_wrappers() -> None:
    student = Listens()
    student.example_input_array = torch.zeros(1, 3, 8, 8)
    module = DistillationModule(student, make_teacher(), KD())
    assert module.example_input_array is student.example_input_array
    assert module.hparams is student.hparams
    assert module.automatic_optimization
    student.automatic_optimization = False
    assert not module.automatic_optimization


def test_forward_is_the_students() -> None:
    student = ResNetLike(dropout=0.0)
    from lightning_kd import Classification

    module = DistillationModule(student, make_teacher(), KD(), task=Classification(5))
    x = data(4).tensors[0]
    assert torch.equal(module(x), student(x))


@pytest.mark.parametrize("batch", [{"image": 0, "label": 1}, {"x": 0, "y": 1}])
def test_a_task_understands_dictionaries(batch: dict[str, int]) -> None:
    from lightning_kd import Classification

    names = list(batch)
    samples = [{names[0]: x, names[1]: y} for x, y in data(8)]
    module = DistillationModule(ResNetLike(), make_teacher(), KD(), task=Classification(5))
    trainer(max_epochs=1).fit(module, DataLoader(samples, batch_size=4), DataLoader(samples, batch_size=4))
