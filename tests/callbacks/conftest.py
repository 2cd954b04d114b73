import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 4


def network(seed, width):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, CLASSES))


class Student(L.LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.model = network(0, width)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.model(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(count=22, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator), torch.randint(CLASSES, (count,), generator=generator)


def trainer(*callbacks, **options):
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
        "callbacks": list(callbacks),
    }
    return L.Trainer(**{**defaults, **options})


class Kit:
    """What the monitors' tests share."""

    Student = Student
    classes = CLASSES
    data = staticmethod(data)
    trainer = staticmethod(trainer)

    @staticmethod
    def teacher():
        return network(1, 16)

    @staticmethod
    def loader(seed=0, batch_size=5):
        return DataLoader(TensorDataset(*data(seed=seed)), batch_size=batch_size)

    @staticmethod
    def hooks(*modules):
        return sum(len(m._forward_hooks) for module in modules for m in module.modules())


@pytest.fixture
def kit():
    return Kit
