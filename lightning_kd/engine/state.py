"""The methods' trainable parts as they hang on the LightningModule: trained with it, never saved in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from lightning_kd.engine.attach import Patches
from lightning_kd.engine.network import STATE_NAME
from lightning_kd.methods.base import DistillationMethod, Weight


class DistillationState(nn.Module):
    """Holds the methods, the peers and the task weight, so that DDP, precision and checkpoints reach them."""

    def __init__(
        self, methods: Iterable[DistillationMethod], peers: Iterable[nn.Module] = (), task_weight: Weight = 1.0
    ) -> None:
        super().__init__()
        self.methods = nn.ModuleList(methods)
        self.peers = nn.ModuleList(peers)
        # a schedule may have a state of its own
        self.task_weight = task_weight if isinstance(task_weight, nn.Module) else None

    def register(self, module: nn.Module, patches: Patches) -> None:
        """Hang this state on ``module``, hidden from its ``state_dict``.

        Module-level hooks are used because a callback's hooks do not run for weights-only checkpoints, and run too late
        when a checkpoint is loaded strictly.
        """
        module.add_module(STATE_NAME, self)
        patches.on_undo(lambda: module._modules.pop(STATE_NAME, None))
        registering: Any = module  # torch leaves these two methods untyped
        patches.on_undo(registering.register_state_dict_post_hook(_hide).remove)
        patches.on_undo(registering.register_load_state_dict_post_hook(_forgive).remove)


def _is_ours(key: str) -> bool:
    return STATE_NAME in key.split(".")


def _hide(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if _is_ours(key)]:
        del state[key]


def _forgive(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not _is_ours(key)]
