from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("mmdet", reason="mmdet is not installed: pip install 'lightning-kd[mmdet]'")

from lightning_kd.detection.mmdet import convert_checkpoint, load_config, load_model

NAME = "retinanet_r18_fpn_1x_coco"


def test_names_and_paths(tmp_path: Path) -> None:
    config = load_config(NAME)
    assert config.model.backbone.depth == 18
    (tmp_path / "mine.py").write_text(f"_base_ = {config.filename!r}\nmodel = dict(backbone=dict(depth=34))\n")
    assert load_config(tmp_path / "mine.py").model.backbone.depth == 34


def test_unknown_names_come_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"no config 'retinanet_r18_fpn_coco'; the nearest of its .* retinanet_r18_fpn"
    ):
        load_config("retinanet_r18_fpn_coco")
    with pytest.raises(ValueError, match=r"no config file 'absent\.py'"):
        load_config("absent.py")


def test_names_of_two_configs_mean_neither() -> None:
    with pytest.raises(ValueError, match="no config 'override_category'"):
        load_config("override_category")


def test_number_of_classes() -> None:
    assert load_model(NAME, pretrained=False).bbox_head.num_classes == 80
    assert load_model(NAME, pretrained=False, num_classes=5).bbox_head.num_classes == 5
    two_stage = load_model("faster-rcnn_r50_fpn_1x_coco", pretrained=False, num_classes=5)
    assert two_stage.roi_head.bbox_head.num_classes == 5
    assert two_stage.rpn_head.num_classes == 1


def test_pretrained_weights_are_asked_for_by_default() -> None:
    config = load_config(NAME)
    config.model.backbone.init_cfg.checkpoint = "absent/resnet18.pth"
    with pytest.raises(FileNotFoundError, match="absent"):
        load_model(config)
    assert "Pretrained" not in str(load_model(config, pretrained=False).backbone.init_cfg)
    assert config.model.backbone.init_cfg.type == "Pretrained"  # the caller's own is left alone


def test_initialization_is_the_configs() -> None:
    head = load_model(NAME, pretrained=False).bbox_head
    torch.testing.assert_close(head.retina_cls.bias.sigmoid(), torch.full_like(head.retina_cls.bias, 0.01))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    load_model(NAME, pretrained=False)
    assert capfd.readouterr().out == ""


def test_names_of_other_libraries_are_left_alone() -> None:
    from mmengine.registry import DefaultScope

    before = DefaultScope.get_current_instance()
    load_model(NAME, pretrained=False)
    assert DefaultScope.get_current_instance() is before


def test_checkpoints(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = load_model(NAME, pretrained=False, num_classes=2).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    # the config's pretrained backbone is not loaded: it would have to be downloaded
    found = load_model(NAME, tmp_path / "weights.safetensors", num_classes=2).state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_checkpoints_of_other_detectors(tmp_path: Path) -> None:
    state = load_model(NAME, pretrained=False, num_classes=2).state_dict()
    state["extra.weight"] = state.pop("neck.fpn_convs.0.conv.bias")
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError, match=r"1 missing \(neck.*1 unknown \(extra.*2 of another shape \(bbox_head\.retina_cls"
    ):
        load_model(NAME, tmp_path / "weights.safetensors")


def test_checkpoints_of_mmengine(tmp_path: Path) -> None:
    from mmengine.logging import HistoryBuffer

    model = load_model(NAME, pretrained=False, num_classes=2)
    log = HistoryBuffer(np.array([1.0, 2.0]), np.array([1, 1]))
    content: dict[str, Any] = {"state_dict": model.state_dict(), "message_hub": {"log_scalars": {"loss": log}}}
    torch.save(content, tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match="trust_checkpoint=True"):
        load_model(NAME, tmp_path / "epoch_1.pth", num_classes=2)
    trusted = load_model(NAME, tmp_path / "epoch_1.pth", num_classes=2, trust_checkpoint=True)
    convert_checkpoint(tmp_path / "epoch_1.pth", tmp_path / "weights.safetensors", trust_checkpoint=True)
    converted = load_model(NAME, tmp_path / "weights.safetensors", num_classes=2)
    for key, value in model.state_dict().items():
        assert torch.equal(trusted.state_dict()[key], value)
        assert torch.equal(converted.state_dict()[key], value)
