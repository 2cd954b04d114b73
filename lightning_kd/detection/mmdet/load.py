"""Build a detector of mmdet from the name of a config, with the weights of a checkpoint or of its backbone."""

from __future__ import annotations

import copy
import difflib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lightning_kd.detection.mmdet.checkpoints import read_checkpoint
from lightning_kd.detection.mmdet.require import require_mmdet

_HEADS = ("bbox_head", "mask_head")


def load_config(config: str | Path) -> Any:
    """Read a config of mmdet.

    A config is a Python program: read only those that you trust.

    Args:
        config: name of one of the configs that come with mmdet, such as ``"retinanet_r18_fpn_1x_coco"``, or the path of
            a ``.py`` file.

    Returns:
        An ``mmengine.Config``.

    Raises:
        ImportError: if mmdet is not installed, or not in a version that fits.
        ValueError: if there is no such config; the message has the nearest names.
    """
    require_mmdet()
    from mmengine.config import Config

    return Config.fromfile(_find(str(config)))


def load_model(
    config: str | Path | Any,
    checkpoint: str | Path | None = None,
    *,
    num_classes: int | None = None,
    pretrained: bool = True,
    trust_checkpoint: bool = False,
) -> nn.Module:
    """Build a detector and fill it with weights.

    Args:
        config: name or path as in :func:`load_config`, or a config that was read before; it is not changed.
        checkpoint: weights of the whole detector, see
            :func:`~lightning_kd.detection.mmdet.checkpoints.read_checkpoint`.
        num_classes: number of classes; by default the config's.
        pretrained: without a checkpoint, start from what the config names, as a rule a backbone trained on ImageNet,
            which is downloaded where it is not cached. ``False`` starts from random weights; layers that the config
            freezes stay random then.
        trust_checkpoint: unpickle the checkpoint, which lets it run any code.

    Returns:
        The detector, in training mode.

    Raises:
        ImportError: if mmdet is not installed, or not in a version that fits.
        ValueError: if there is no such config, or the checkpoint cannot be read or is of another detector.
    """
    content = load_config(config) if isinstance(config, str | Path) else config
    require_mmdet()
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.registry import DefaultScope

    register_all_modules(init_default_scope=False)
    settings = copy.deepcopy(content.model)
    if num_classes is not None:
        _set_classes(settings, num_classes)
    if checkpoint is not None or not pretrained:
        _drop_pretrained(settings)
    # names without a scope are mmdet's here, and nowhere else in the program
    with DefaultScope.overwrite_default_scope("mmdet"), _without_report():
        model: Any = MODELS.build(settings)
        if checkpoint is None:
            model.init_weights()
    if checkpoint is not None:
        _fill(model, read_checkpoint(checkpoint, trust_checkpoint=trust_checkpoint), str(checkpoint))
    found: nn.Module = model
    return found


@contextmanager
def _without_report() -> Iterator[None]:
    """Silence mmengine, which otherwise prints how each parameter was initialized, and mmdet's remarks on itself."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="DeprecationWarning: `num_anchors`")
            yield
    finally:
        logger.setLevel(level)


def _find(config: str) -> Path:
    path = Path(config)
    if path.suffix == ".py" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise ValueError(f"there is no config file {config!r} (looked in {Path.cwd()})")
    names = _shipped()
    if config in names:
        return names[config]
    near = difflib.get_close_matches(config, names, n=5, cutoff=0.3)
    raise ValueError(
        f"mmdet has no config {config!r}; the nearest of its {len(names)} are {', '.join(near) or 'unlike it'}. "
        "For a file of your own, give its path."
    )


@cache
def _shipped() -> dict[str, Path]:
    import mmdet

    root = Path(mmdet.__file__).parent / ".mim" / "configs"
    paths = [path for path in sorted(root.rglob("*.py")) if "_base_" not in path.parts]
    count = Counter(path.stem for path in paths)
    # a name that two configs have could mean either; their paths remain
    return {path.stem: path for path in paths if count[path.stem] == 1}


def _set_classes(settings: Any, num_classes: int) -> None:
    """Heads that tell classes apart; the proposals of a first stage do not."""
    for part in (settings, settings.get("roi_head") or {}):
        for name in _HEADS:
            heads = part.get(name) or []
            for head in heads if isinstance(heads, list) else [heads]:
                head.num_classes = num_classes


def _drop_pretrained(settings: Any) -> None:
    """Take out whatever would load or download weights."""
    if isinstance(settings, Mapping):
        chosen: Any = settings
        if _loads(chosen.get("init_cfg")):
            chosen["init_cfg"] = None
        if chosen.get("pretrained") is not None:
            chosen["pretrained"] = None
        for value in chosen.values():
            _drop_pretrained(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            _drop_pretrained(value)


def _loads(initialization: Any) -> bool:
    rules = initialization if isinstance(initialization, list | tuple) else [initialization]
    return any(isinstance(rule, Mapping) and rule.get("type") == "Pretrained" for rule in rules)


def _fill(model: nn.Module, state: dict[str, Tensor], name: str) -> None:
    own = model.state_dict()
    others = [key for key, value in state.items() if key in own and own[key].shape != value.shape]
    problems = {
        "missing": [key for key in own if key not in state],
        "unknown": [key for key in state if key not in own],
        "of another shape": others,
    }
    if any(problems.values()):
        details = "; ".join(f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in problems.items() if keys)
        raise ValueError(
            f"{name} does not hold the weights of this {type(model).__name__}: {details}. Take the config that the "
            "checkpoint was trained with, and its number of classes."
        )
    model.load_state_dict(state)


def _some(keys: list[str], limit: int = 3) -> str:
    return ", ".join(keys[:limit]) + (", …" if len(keys) > limit else "")
