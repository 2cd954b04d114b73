"""Every layout in which the public repositories keep weights, written here as their code writes it."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from kd_bench.errors import UserError
from kd_bench.models import create_model
from kd_bench.models.checkpoints import load_teacher
from kd_bench.models.containers import read_weights
from torch import Tensor, nn

Weights = dict[str, Tensor]


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{key}": value for key, value in weights.items()}


def optimizer_state(network: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(3)
    network = create_model("resnet8", num_classes=100)
    network(torch.randn(8, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def student() -> nn.Module:
    torch.manual_seed(4)
    return create_model("wrn_16_1", num_classes=100).eval()


LAYOUTS: dict[str, Callable[[nn.Module, Weights], object]] = {
    "raw state dict (ReviewKD)": lambda _, weights: weights,
    "RepDistiller, periodic": lambda network, weights: {
        "epoch": 240,
        "model": weights,
        "accuracy": torch.tensor(79.42),
        "optimizer": optimizer_state(create_model("resnet8", num_classes=100)),
    },
    "RepDistiller, best": lambda _, weights: {"epoch": 236, "model": weights, "best_acc": torch.tensor(79.5)},
    "RepDistiller, last, with its command line": lambda _, weights: {
        "opt": Namespace(model="resnet8", learning_rate=0.05, iterations=[150, 180, 210], dataset="cifar100"),
        "model": weights,
        "optimizer": optimizer_state(create_model("resnet8", num_classes=100)),
    },
    "mdistiller, student": lambda _, weights: {"model": weights},
    "SimKD": lambda _, weights: {"epoch": 1, "model": weights, "best_acc": 70.1, "proj": {"w": torch.ones(2)}},
    "DIST": lambda _, weights: {"epoch": 1, "state_dict": weights, "model": "cifar_resnet8"},
    "DataParallel": lambda _, weights: {"state_dict": prefixed("module.", weights)},
    "compiled": lambda _, weights: prefixed("_orig_mod.", weights),
    "Lightning, in an attribute": lambda _, weights: {
        "state_dict": prefixed("network.", weights),
        "pytorch-lightning_version": "2.6",
    },
    "before batch norm counted": lambda _, weights: {
        "model": {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_layout_loads_and_reproduces_the_outputs(
    layout: str, legacy: bool, teacher: nn.Module, tmp_path: Path
) -> None:
    file = tmp_path / "ckpt_epoch_240.pth"
    content = LAYOUTS[layout](teacher, dict(teacher.state_dict()))
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    loaded = load_teacher("resnet8", file)
    images = torch.randn(4, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(images), teacher(images))


@pytest.mark.parametrize("numpy", ["numpy.core", "numpy._core"])
def test_the_public_teachers_written_on_a_gpu_by_an_old_pytorch(numpy: str, teacher: nn.Module, tmp_path: Path) -> None:
    """Their optimizer state holds a NumPy learning rate, and their tensors lie on a GPU that need not be here."""
    optimizer = optimizer_state(create_model("resnet8", num_classes=100))
    optimizer["param_groups"][0]["lr"] = 0.05 * 0.1 ** np.sum(np.asarray([150, 180, 210]) < 240)
    buffer = io.BytesIO()
    content = {
        "epoch": 240,
        "model": teacher.state_dict(),
        "accuracy": torch.tensor(79.42),
        "best_acc": np.float32(79.5),
        "optimizer": optimizer,
    }
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    for here, there in (
        (b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n"),
        (b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"),
        (f"c{np.float64(0).__reduce__()[0].__module__}\nscalar\n".encode(), f"c{numpy}.multiarray\nscalar\n".encode()),
    ):
        assert here in data
        data = data.replace(here, there)
    (tmp_path / "ckpt_epoch_240.pth").write_bytes(data)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(load_teacher("resnet8", tmp_path / "ckpt_epoch_240.pth")(images), teacher(images))


def test_safetensors_under_any_name(teacher: nn.Module, tmp_path: Path) -> None:
    images = torch.randn(4, 3, 32, 32)
    for name in ("teacher.safetensors", "teacher.bin"):
        safetensors.torch.save_file(dict(teacher.state_dict()), tmp_path / name)
        assert torch.equal(load_teacher("resnet8", tmp_path / name)(images), teacher(images))


def test_a_distillation_run_gives_the_network_that_the_name_fits(
    teacher: nn.Module, student: nn.Module, tmp_path: Path
) -> None:
    file = tmp_path / "latest"
    run = prefixed("module.student.", dict(student.state_dict()))
    run |= prefixed("module.teacher.", dict(teacher.state_dict()))
    run["module.conv_reg.conv.weight"] = torch.ones(1)
    torch.save({"epoch": 240, "model": run, "best_acc": 70.0}, file)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(load_teacher("wrn_16_1", file)(images), student(images))
    assert torch.equal(load_teacher("resnet8", file)(images), teacher(images))


def test_a_run_between_equal_networks_gives_the_student(teacher: nn.Module, tmp_path: Path) -> None:
    other = {key: torch.zeros_like(value) for key, value in teacher.state_dict().items()}
    run = prefixed("teacher.", other) | prefixed("student.network.", dict(teacher.state_dict()))
    torch.save({"state_dict": run}, tmp_path / "run.ckpt")
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(load_teacher("resnet8", tmp_path / "run.ckpt")(images), teacher(images))


def test_mobilenet_keeps_the_prefix_that_only_most_of_its_keys_have(tmp_path: Path) -> None:
    network = create_model("MobileNetV1", num_classes=10)
    torch.save(prefixed("module.", dict(network.state_dict())), tmp_path / "mv1.pth")
    assert read_weights(tmp_path / "mv1.pth")[0].keys() == network.state_dict().keys()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as writer:
            for name, data in files.items():
                writer.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as writer:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            writer.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["cifar_teachers.tar", "cifar_teachers.tgz", "cifar_ckpts.zip"])
def test_a_file_in_an_archive(name: str, teacher: nn.Module, tmp_path: Path) -> None:
    member = "cifar_teachers/resnet8_vanilla/ckpt_epoch_240.pth"
    path = archive(
        tmp_path / name, {"README": b"text", member: saved({"model": teacher.state_dict()}), "page.pth": b"<html>"}
    )
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(load_teacher("resnet8", f"{path}#{member}")(images), teacher(images))
    with pytest.raises(UserError, match=rf"is an archive.*{name}#{member}"):
        load_teacher("resnet8", path)
    with pytest.raises(UserError, match=rf"has no file 'ckpt_epoch_240.pth'; the nearest are .*{member}"):
        load_teacher("resnet8", f"{path}#ckpt_epoch_240.pth")
    with pytest.raises(UserError, match="HTML page"):
        load_teacher("resnet8", f"{path}#page.pth")


def test_a_member_of_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(UserError, match="not a tar or zip archive"):
        read_weights(path, "inside.pth")


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the checkpoint ran code')",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_checkpoint_cannot_run_code(form: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": Bomb()}, protocol=2))
    else:
        torch.save({"model": Bomb()}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match=r"would run \S*exec.*convert it once"):
        read_weights(path)


def test_a_whole_pickled_network_says_what_to_do(teacher: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": teacher}, tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"would run kd_bench\.models\.cifar\.resnet\.ResNet.*weights_only=False"):
        read_weights(tmp_path / "whole.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "is an HTML page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer.*git lfs pull"),
        (b'{"message": "rate limit"}', "is a text or JSON message"),
        (b"", "damaged or not a checkpoint"),
        (b"\x00\x01 something else", "damaged or not a checkpoint"),
    ],
)
def test_files_that_are_something_else(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_weights(path)


@pytest.mark.parametrize("part", [0.5, 0.99])
def test_a_file_that_was_cut_off(part: float, teacher: nn.Module, tmp_path: Path) -> None:
    whole = saved({"model": teacher.state_dict()})
    (tmp_path / "cut.pth").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UserError, match="damaged or not a checkpoint; remove it and fetch it again"):
        read_weights(tmp_path / "cut.pth")


def test_contents_without_weights(tmp_path: Path) -> None:
    for content, holds in (({"epoch": 3, "opt": 1}, "epoch, opt"), ([1, 2], "a list"), ({}, "a dict")):
        torch.save(content, tmp_path / "file.pth")
        with pytest.raises(UserError, match=f"it holds {holds}. Expected a state dict, or one under 'model'"):
            read_weights(tmp_path / "file.pth")


def test_safetensors_with_a_header_that_looks_like_a_page(tmp_path: Path) -> None:
    # The file begins with the header's length, and 60 is the code of "<".
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(ord("<"))
    data = len(header).to_bytes(8, "little") + header + struct.pack("<2f", 1, 2)
    assert data.startswith(b"<")
    (tmp_path / "w.safetensors").write_bytes(data)
    assert read_weights(tmp_path / "w.safetensors")[0]["w"].tolist() == [1, 2]
