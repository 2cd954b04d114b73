"""`lightning-kd fit`: configurations that train, and mistakes that are explained."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from torch import Tensor

from lightning_kd import Distillation, Teacher
from lightning_kd.cli.fit_cli import CONFIG_FILE
from lightning_kd.cli.fit_template import template
from lightning_kd.cli.main import main
from lightning_kd.methods import KD

EXAMPLES = Path(__file__).parents[2] / "examples"

PROJECT = """
import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class TeacherNetwork(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body, self.fc = nn.Linear(6, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.body(x).relu())


def make_network(width: int = 8, **options) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, options["num_classes"]))


class StudentModule(L.LightningModule):
    def __init__(self, width: int = 4, lr: float = 0.05) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        self.save_hyperparameters()
        self.model = TeacherNetwork(self.hparams.width)

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class DataModule(L.LightningDataModule):
    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)
        return DataLoader(TensorDataset(x, y), batch_size=4)
"""

TRAINER: dict[str, Any] = {
    "max_epochs": 2,
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "seed_everything": 0,
        "model": {"class_path": "my_project.StudentModule"},
        "data": {"class_path": "my_project.DataModule"},
        "teacher": {"class_path": "my_project.TeacherNetwork"},
        "method": [{"class_path": "KD", "init_args": {"temperature": 2.0, "weight": 0.9}}],
        "task_weight": 0.1,
        "trainer": TRAINER,
        "save_student": "student.ckpt",
        **changes,
    }


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with a module of their own; commands run in it."""
    (tmp_path / "my_project.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_project", raising=False)
    yield tmp_path
    sys.modules.pop("my_project", None)


def fit(given: dict[str, Any], *arguments: str) -> int:
    Path("run.yaml").write_text(yaml.safe_dump(given))
    return main(["fit", "--config", "run.yaml", *arguments])


def saved(path: str = "student.ckpt") -> dict[str, Tensor]:
    content = torch.load(path, weights_only=True)
    return content.get("state_dict", content)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def project_module() -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module("my_project")
    finally:
        sys.path.remove(os.getcwd())


# what is trained


def test_a_lightning_module_is_trained_as_in_python() -> None:
    torch.manual_seed(5)
    torch.save(project_module().TeacherNetwork().state_dict(), "teacher.pt")
    assert fit(config(teacher_checkpoint="teacher.pt")) == 0

    module = project_module()
    teacher = module.TeacherNetwork()
    teacher.load_state_dict(torch.load("teacher.pt", weights_only=True))
    L.seed_everything(0, workers=True)
    student = module.StudentModule()
    callback = Distillation(teacher, KD(temperature=2.0, weight=0.9), task_weight=0.1)
    L.Trainer(**TRAINER, callbacks=[callback]).fit(student, datamodule=module.DataModule())
    assert equal(saved(), student.state_dict())
    assert equal(module.StudentModule.load_from_checkpoint("student.ckpt").state_dict(), student.state_dict())


def test_a_plain_network_is_trained_for_its_task() -> None:
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2}}
    scheduler = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
    task = {"num_classes": 3, "optimizer": optimizer, "scheduler": scheduler}
    given = config(
        model={"class_path": "my_project.TeacherNetwork", "init_args": {"width": 5}},
        task={"class_path": "Classification", "init_args": task},
    )
    assert fit(given) == 0
    module = project_module()
    L.seed_everything(0)
    fresh = module.TeacherNetwork(5).state_dict()
    assert saved().keys() == fresh.keys()
    assert not equal(saved(), fresh)


@pytest.mark.parametrize(
    "teacher",
    [
        {"class_path": "my_project.StudentModule", "init_args": {"width": 16, "lr": 9.0}},
        {"class_path": "my_project.make_network", "dict_kwargs": {"num_classes": 3}},
        [{"class_path": "my_project.TeacherNetwork"}, {"class_path": "my_project.StudentModule"}],
    ],
    ids=["LightningModule", "function", "two teachers"],
)
def test_kinds_of_teachers(teacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Teacher] = []
    original = Distillation.setup

    def setup(self: Distillation, *arguments: Any, **keywords: Any) -> None:
        seen.extend(self.engine.teachers)
        original(self, *arguments, **keywords)

    monkeypatch.setattr(Distillation, "setup", setup)
    assert fit(config(teacher=teacher)) == 0
    assert len(seen) == (2 if isinstance(teacher, list) else 1)
    if isinstance(teacher, dict) and "init_args" in teacher:
        assert dict(seen[0].module.hparams) == teacher["init_args"]  # type: ignore[arg-type]  # a LightningModule
        assert saved()["model.body.weight"].shape == (4, 6)


IMAGES = """
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset


class Images(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(4, 3, 32, 32), torch.arange(4) % 3), batch_size=4)
"""


@pytest.mark.slow
def test_networks_of_torchvision_and_timm(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "my_images.py").write_text(IMAGES)
    monkeypatch.delitem(sys.modules, "my_images", raising=False)
    given = config(
        model={"class_path": "torchvision.models.resnet18", "init_args": {"num_classes": 3}},
        teacher={
            "class_path": "timm.create_model",
            "init_args": {"model_name": "resnet10t"},
            "dict_kwargs": {"num_classes": 3},
        },
        task={"class_path": "Classification", "init_args": {"num_classes": 3}},
        data={"class_path": "my_images.Images"},
        method=[{"class_path": "KD"}, {"class_path": "FitNet", "init_args": {"layers": {"layer3": "layer3"}}}],
        trainer={**TRAINER, "max_epochs": 1},
    )
    assert fit(given) == 0
    assert "layer4.1.bn2.weight" in saved()


def test_methods_schedules_and_callbacks() -> None:
    schedule = {"class_path": "lightning_kd.schedules.WarmUp", "init_args": {"epochs": 4}}
    given = config(
        method=[
            {"class_path": "lightning_kd.methods.DKD", "init_args": {"beta": 2.0, "weight": schedule}},
            {"class_path": "lightning_kd.methods.FitNet", "init_args": {"layers": {"body": "body"}}},
        ],
        task_weight={"class_path": "lightning_kd.schedules.Linear", "init_args": {"start": 1.0, "end": 0.5}},
        network="model",
        target=1,
        trainer={
            **TRAINER,
            "log_every_n_steps": 1,
            "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}},
            "callbacks": {"class_path": "LearningRateMonitor"},
        },
    )
    assert fit(given) == 0
    header = next(Path("logs").rglob("metrics.csv")).read_text().splitlines()[0]
    assert {"kd/DKD", "kd/FitNet", "lr-SGD", "train/loss"} <= set(header.split(","))


def test_the_complete_configuration_is_kept_and_gives_the_same_student() -> None:
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}}
    assert fit(config(trainer={**TRAINER, "logger": logger})) == 0
    first = saved()
    (kept,) = Path("logs").rglob(CONFIG_FILE)
    assert main(["fit", "--config", str(kept), "--save_student", "again.ckpt"]) == 0
    assert equal(saved("again.ckpt"), first)


def test_a_run_continues_from_a_checkpoint() -> None:
    settings = {**TRAINER, "enable_checkpointing": True, "default_root_dir": "first"}
    assert fit(config(trainer={**settings, "max_epochs": 4})) == 0
    whole = saved()
    assert fit(config(trainer={**settings, "default_root_dir": "half"})) == 0
    (checkpoint,) = Path("half").rglob("*.ckpt")
    assert fit(config(trainer={**settings, "max_epochs": 4}), "--ckpt_path", str(checkpoint)) == 0
    assert equal(saved(), whole)


def test_wandb_offline(project: Path) -> None:
    logger = {"class_path": "WandbLogger", "init_args": {"save_dir": "logs", "project": "kd", "offline": True}}
    Path("run.yaml").write_text(yaml.safe_dump(config(trainer={**TRAINER, "logger": logger, "log_every_n_steps": 1})))
    process = subprocess.run(
        [sys.executable, "-m", "lightning_kd.cli.main", "fit", "--config", "run.yaml"],
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(project / "logs"), "HOME": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    (log,) = Path("logs/wandb").glob("offline-run-*/run-*.wandb")
    assert b"kd/KD" in log.read_bytes()


# the starting point


def test_print_config_alone_prints_a_commented_start_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert printed == template()
    assert printed.count("#") > 20
    Path("run.yaml").write_text(printed)
    assert main(["fit", "--config", "run.yaml", "--trainer.fast_dev_run", "true", "--trainer.accelerator=cpu"]) == 0


def test_what_is_commented_out_in_the_start_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    # the plain network and the schedule, uncommented; the first two keys of the same name give way
    text = template().replace("# model:", "model:", 1)
    plain = text[text.index("model:\n  class_path: my_project.StudentModule") :]
    block = plain[plain.index("model:\n#   class_path: torchvision") : plain.index("# save_student")]
    given = yaml.safe_load(block.replace("\n# ", "\n"))
    method = text[text.index("  # - class_path: lightning_kd.methods.DKD") : text.index("\n# Only where")]
    lines = [line.replace("  # ", "", 1) for line in method.splitlines() if ":" in line and "A weight" not in line]
    given["method"] = yaml.safe_load("\n".join(line for line in lines if not line.startswith("Methods")))
    assert given["model"]["class_path"] == "torchvision.models.resnet18"
    assert len(given["method"]) == 2
    Path("run.yaml").write_text(yaml.safe_dump({**given, "teacher": given["model"]}))
    assert main(["fit", "--config", "run.yaml", "--print_config"]) == 0
    complete = yaml.safe_load(capsys.readouterr().out)
    assert complete["task"]["init_args"]["scheduler"]["init_args"]["milestones"] == [150, 180, 210]
    assert complete["method"][0]["init_args"]["weight"]["init_args"] == {"epochs": 20}


# mistakes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"class_path": "my_project.Nothing"}}, ["my_project.Nothing"]),
        ({"model": {"class_path": "no_project.Student"}}, ["no_project"]),
        ({"model": {"class_path": "my_project.StudentModule", "init_args": {"depth": 3}}}, ["depth", "dict_kwargs"]),
        ({"model": {"class_path": "my_project.StudentModule", "init_args": {"width": 0}}}, ["width must be positive"]),
        ({"model": {"class_path": "my_project.TeacherNetwork"}}, ["plain nn.Module", "task="]),
        ({"task": {"class_path": "Classification", "init_args": {"num_classes": 3}}}, ["task= must be left out"]),
        ({"method": []}, ["no method given", "lightning-kd methods"]),
        ({"method": "Nothing"}, ["Nothing"]),
        ({"method": [{"class_path": "KD", "init_args": {"temperature": 0.0}}]}, ["temperature must be positive"]),
        ({"method": [{"class_path": "KD", "init_args": {"temperature": "warm"}}]}, ["temperature", "warm"]),
        ({"teacher": None}, ["KD needs a teacher"]),
        ({"teachr": None}, ["teachr"]),
        ({"teacher_checkpoint": "gone.pt"}, ["no checkpoint 'gone.pt'"]),
        ({"teacher_checkpoint": ["a.pt", "b.pt"]}, ["2 file(s) for 1 teacher(s)"]),
        ({"network": "backbone"}, ["backbone"]),
        ({"method": [{"class_path": "FitNet", "init_args": {"layers": {"layer9": "body"}}}]}, ["layer9"]),
        ({"trainer": {**TRAINER, "accelerator": "warp"}}, ["warp"]),
        ({"trainer": {**TRAINER, "epochs": 3}}, ["epochs"]),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[0],
)
def test_a_mistake_is_explained_with_exit_code_2(
    changes: dict[str, Any], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(config(**changes)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("error: ") >= 1
    assert "Traceback" not in captured.err
    for part in expected:
        assert part in captured.err
    assert not Path("student.ckpt").exists()


def test_nothing_given_points_to_the_starting_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 2
    error = capsys.readouterr().err
    assert "model" in error
    assert "--print_config" in error


def test_a_missing_or_broken_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "gone.yaml"]) == 2
    assert "gone.yaml" in capsys.readouterr().err
    Path("broken.yaml").write_text("model: [\n")
    assert main(["fit", "--config", "broken.yaml"]) == 2
    assert "line 2" in capsys.readouterr().err


def test_a_defect_in_the_students_code_keeps_its_traceback(project: Path) -> None:
    (project / "my_project.py").write_text(PROJECT.replace("loss = F.cross_entropy", "loss = F.cross_entrophy"))
    with pytest.raises(AttributeError, match="cross_entrophy"):
        fit(config())


# the callback in somebody's own LightningCLI


def test_the_example_configuration_runs(project: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "lightning_cli.py"), "fit", "--config", str(EXAMPLES / "lightning_cli.yaml")],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    metrics = next((project / "runs").rglob("metrics.csv")).read_text()
    assert {"kd/KD", "kd/FitNet", "val/acc"} <= set(metrics.splitlines()[0].split(","))
