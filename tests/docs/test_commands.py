"""The commands and configurations of the docs are those that exist."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pages import DOCS, all_pages, code_blocks, name_of

from lightning_kd.cli.main import main

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


class StudentModule(L.LightningModule):
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = TeacherNetwork(4)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class DataModule(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(8, 6), torch.arange(8) % 3), batch_size=4)
"""

QUIET = {"accelerator": "cpu", "max_epochs": 1, "logger": False, "enable_progress_bar": False}


def commands() -> Iterator[tuple[str, str]]:
    """Page and command line, for every `lightning-kd …` in a block of shell commands."""
    for page in all_pages():
        for block in code_blocks(page, "bash"):
            for line in block.splitlines():
                if line.startswith("lightning-kd"):
                    yield name_of(page), line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with a module of their own."""
    (tmp_path / "my_project.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_project", raising=False)
    yield tmp_path
    sys.modules.pop("my_project", None)


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_command_exists(
    page: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(line, comments=True)[1:]
    if ">" in words:
        words = words[: words.index(">")]
    path = [word for word in words if re.fullmatch(r"[a-z]+", word)][:2]
    path = path if path[0] in ("bench", "leaderboard") else path[:1]
    with pytest.raises(SystemExit) as stopped:
        sys.exit(main([*path, "--help"]))
    assert not stopped.value.code
    usage = capsys.readouterr().out
    for option in (word for word in words[len(path) :] if word.startswith("--")):
        assert re.search(rf"{re.escape(option)}\b", usage), f"{page}: {' '.join(path)} has no option {option}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", code_blocks(DOCS / "configuration.md", "yaml"))
def test_configuration_trains(block: str, project: Path) -> None:
    given = yaml.safe_load(block)
    given["trainer"] |= {**QUIET, "enable_checkpointing": False, "enable_model_summary": False}
    (project / "run.yaml").write_text(yaml.safe_dump(given))
    assert main(["fit", "--config", "run.yaml"]) == 0
    assert (project / given["save_student"]).is_file()


def test_the_index_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, flags=re.MULTILINE)
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert listed
    assert all(f"`lightning-kd {command}" in index for command in listed)
