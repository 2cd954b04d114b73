"""Small networks, LightningModules and hand-written loops that the engine tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

CLASSES = 5


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


class ResNetLike(nn.Module):
    """BatchNorm, dropout and three stages, like the students people distil."""

    def __init__(self, width: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.layer1 = Block(width, width, 1)
        self.layer2 = Block(width, 2 * width, 2)
        self.layer3 = Block(2 * width, 4 * width, 2)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(4 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.stem(x)))))
        return self.fc(self.dropout(x.mean((2, 3))))


class Innocent(L.LightningModule):
    """Written without any thought of distillation: own metrics, logs, scheduler and validation."""

    def __init__(self, width: int = 4, call: str = "model", lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = ResNetLike(width)
        self.train_acc = MulticlassAccuracy(CLASSES)
        self.val_acc = MulticlassAccuracy(CLASSES)
        self.call = call
        self.epoch_ends = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        x = x + 0.1 * torch.randn_like(x)
        calls: dict[str, Callable[[Tensor], Tensor]] = {
            "model": self.model,
            "self": self,
            "forward": self.forward,
            "model.forward": self.model.forward,
        }
        logits = calls[self.call](x)
        loss = F.cross_entropy(logits, y)
        self.train_acc(logits, y)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.val_acc(self(x), y)
        self.log("val/acc", self.val_acc)

    def on_train_epoch_end(self) -> None:
        self.epoch_ends += 1

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1], gamma=0.1)]


def data(samples: int = 40) -> TensorDataset:
    generator = torch.Generator().manual_seed(7)
    return TensorDataset(
        torch.randn(samples, 3, 8, 8, generator=generator), torch.randint(CLASSES, (samples,), generator=generator)
    )


def loader(samples: int = 40, batch_size: int = 4, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(data(samples), batch_size=batch_size, shuffle=shuffle)


def make_teacher(width: int = 6) -> ResNetLike:
    torch.manual_seed(100)
    return ResNetLike(width)


def make_student(**kwargs: Any) -> Innocent:
    torch.manual_seed(0)
    return Innocent(**kwargs)


def trainer(tmp_path: Any = None, **kwargs: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    if tmp_path is not None:
        settings["default_root_dir"] = tmp_path
    return L.Trainer(**{**settings, **kwargs})


def difference(a: nn.Module, b: nn.Module) -> float:
    """Largest absolute difference over parameters and buffers."""
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    return max(float((left[key].double() - right[key].double()).abs().max()) for key in left if left[key].numel())


class Late(Innocent):
    """The network is made in ``configure_model``."""

    def __init__(self) -> None:
        super().__init__()
        self.model = None

    def configure_model(self) -> None:
        if self.model is None:
            torch.manual_seed(4)
            self.model = ResNetLike()
