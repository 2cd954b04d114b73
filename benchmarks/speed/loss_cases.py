"""Each loss with its reference and inputs of the size at which its cost matters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_kd import functional

REFERENCES = [
    importlib.import_module(f"references.{family}")
    for family in ("logits", "tokens", "features", "relations", "pyramids", "heads")
]

Loss = Callable[..., Tensor]
Argument = Tensor | list[Tensor] | float


@dataclass(frozen=True)
class Sizes:
    """How large the inputs are.

    Attributes:
        batch: samples of logits, embeddings and scores.
        classes: number of classes.
        tokens: valid and padding tokens together.
        vocabulary: number of tokens to choose from.
        width: length of embeddings.
        stages: channels and side of each stage's map.
        negatives: negatives of a sample.
        dtype: of all floating-point inputs.
    """

    batch: int
    classes: int
    tokens: int
    vocabulary: int
    width: int
    stages: tuple[tuple[int, int], ...]
    negatives: int
    dtype: torch.dtype = torch.float32


RESNET50 = ((256, 56), (512, 28), (1024, 14), (2048, 7))
FULL = Sizes(256, 1000, 2048, 8000, 2048, RESNET50, 16_384)
TINY = Sizes(6, 5, 7, 40, 4, ((5, 8), (7, 6), (8, 5)), 9, torch.float64)
_IMAGE_SIZE = (224, 224)
_LEVELS = (784, 196, 49)


@dataclass(frozen=True)
class Case:
    """Inputs of one loss.

    Attributes:
        make: creates the positional arguments for given sizes; what takes a gradient requires one.
        sizes: how large they are in the benchmark: :data:`FULL`, or fewer samples, so that a call fits into memory and
            takes about a second at most.
        options: further keyword arguments of the loss and of its reference.
    """

    make: Callable[[Sizes], tuple[Argument, ...]]
    sizes: Sizes = FULL
    options: dict[str, Any] = field(default_factory=dict)


def _fewer(samples: int) -> Sizes:
    return replace(FULL, batch=samples)


def reference(name: str) -> Loss:
    """The reference of the loss ``name``.

    Raises:
        LookupError: if there is none.
    """
    for module in REFERENCES:
        if hasattr(module, name):
            found: Loss = getattr(module, name)
            return found
    raise LookupError(f"{name} has no reference: write one, under the same name, in benchmarks/speed/references")


def loss(name: str) -> Loss:
    """The loss ``name``."""
    found: Loss = getattr(functional, name)
    return found


def leaves(arguments: Sequence[Argument]) -> list[Tensor]:
    """The tensors that take a gradient."""
    tensors = [t for value in arguments for t in (value if isinstance(value, list) else [value])]
    return [tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.requires_grad]


def shape(arguments: Sequence[Argument]) -> str:
    """The first argument in words."""
    first = arguments[0]
    if isinstance(first, list):
        return f"{len(first[0])}x{len(first)} stages"
    assert isinstance(first, Tensor)
    return "x".join(map(str, first.shape))


def _normal(sizes: Sizes, *shape: int, grad: bool = False) -> Tensor:
    return (2 * torch.randn(*shape, dtype=sizes.dtype)).requires_grad_(grad)


def _logits(sizes: Sizes) -> tuple[Tensor, Tensor]:
    shape = sizes.batch, sizes.classes
    return _normal(sizes, *shape, grad=True), _normal(sizes, *shape)


def _top_classes(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    student, teacher = _logits(sizes)
    log_probabilities, indices = teacher.log_softmax(-1).topk(min(10, sizes.classes - 1))
    return student, indices, log_probabilities, torch.log1p(-log_probabilities.exp().sum(-1))


def _labels(sizes: Sizes) -> Tensor:
    return torch.randint(sizes.classes, (sizes.batch,))


def _labelled(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    return *_logits(sizes), _labels(sizes)


def _label_only(sizes: Sizes) -> tuple[Tensor, Tensor]:
    return _logits(sizes)[0], _labels(sizes)


def _two_students(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    return _logits(sizes)[0], _logits(sizes)[0], _labels(sizes)


def _peers(sizes: Sizes) -> tuple[Tensor, list[Tensor]]:
    student, peer = _logits(sizes)
    return student, [peer, _logits(sizes)[1]]


def _learned_temperature(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    return *_logits(sizes), torch.tensor(4.0, dtype=sizes.dtype, requires_grad=True)


def _tokens(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    shape = sizes.tokens, sizes.vocabulary
    mask = torch.arange(sizes.tokens) % 4 > 0
    return _normal(sizes, *shape, grad=True), _normal(sizes, *shape), mask


def _heads(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    widths = sizes.width, 2 * sizes.width
    hidden, taught = (_normal(sizes, sizes.tokens, width) for width in widths)
    weight, teacher_weight = (_normal(sizes, sizes.vocabulary, width) / width**0.5 for width in widths)
    mask = torch.arange(sizes.tokens) % 4 > 0
    return hidden.requires_grad_(), weight.requires_grad_(), taught, teacher_weight, mask


def _map(sizes: Sizes, channels: int, side: int) -> tuple[Tensor, Tensor]:
    student, teacher = (_normal(sizes, sizes.batch, channels, side, side).relu() for _ in range(2))
    return student.requires_grad_(), teacher


def _last_stage(sizes: Sizes) -> tuple[Tensor, Tensor]:
    return _map(sizes, *sizes.stages[-1])


def _factor(sizes: Sizes) -> tuple[Tensor, Tensor]:
    channels, side = sizes.stages[-1]
    return _map(sizes, channels // 2, side)


def _class_maps(sizes: Sizes) -> tuple[Tensor, Tensor]:
    return _map(sizes, sizes.classes, sizes.stages[-1][1])


def _stages(sizes: Sizes) -> tuple[list[Tensor], list[Tensor]]:
    pairs = [_map(sizes, channels, side) for channels, side in sizes.stages]
    return [student for student, _ in pairs], [teacher for _, teacher in pairs]


def _boxes(sizes: Sizes) -> list[Tensor]:
    """Seven boxes an image, in pixels of ``_IMAGE_SIZE``."""
    corners = torch.rand(sizes.batch, 7, 2, dtype=sizes.dtype) * 100
    return list(torch.cat([corners, corners + 10 + 100 * torch.rand(sizes.batch, 7, 2, dtype=sizes.dtype)], 2))


def _anchors(sizes: Sizes) -> list[Tensor]:
    """Three squares around every position of every stage's map."""
    found = []
    for _, side in sizes.stages:
        stride = _IMAGE_SIZE[0] / side
        centres = torch.cartesian_prod(*[(torch.arange(side, dtype=sizes.dtype) + 0.5) * stride] * 2).flip(1)
        reach = torch.tensor([1.0, 1.6, 2.5], dtype=sizes.dtype)[:, None] * stride
        found.append(torch.cat([centres[:, None] - reach, centres[:, None] + reach], 2).flatten(0, 1))
    return found


def _boxed(sizes: Sizes) -> tuple[list[Tensor], ...]:
    return *_stages(sizes), *_stages(sizes), _boxes(sizes)


def _anchored(sizes: Sizes) -> tuple[list[Tensor], ...]:
    return *_stages(sizes), _anchors(sizes), _boxes(sizes)


def _headed(sizes: Sizes) -> tuple[list[Tensor], ...]:
    heads = [_map(sizes, 20, side) for _, side in sizes.stages]
    return *_stages(sizes), [student for student, _ in heads], [teacher for _, teacher in heads]


def _crossed(sizes: Sizes) -> tuple[Argument, ...]:
    logits = [_normal(sizes, sizes.batch, sum(_LEVELS), sizes.classes, grad=grad) for grad in (True, False)]
    corners = torch.rand(2, sizes.batch, sum(_LEVELS), 2, dtype=sizes.dtype) * 20
    boxes = torch.cat([corners, corners + 10 + 20 * torch.rand_like(corners)], 3)
    valid = torch.rand(sizes.batch, sum(_LEVELS)) < 0.9
    return *logits, boxes[0].requires_grad_(), boxes[1], valid, 50.0


def _distributed(sizes: Sizes) -> tuple[Argument, ...]:
    bins = [_normal(sizes, sizes.batch, sum(_LEVELS), 4, 17, grad=grad) for grad in (True, False)]
    logits = [_normal(sizes, sizes.batch, sum(_LEVELS), sizes.classes, grad=grad) for grad in (True, False)]
    chances = torch.rand(2, sizes.batch, sum(_LEVELS), dtype=sizes.dtype)
    return *bins, *logits, chances[0] < 0.02, (chances[1] - 0.9).clamp(min=0)


def _channels(sizes: Sizes, *, grad: bool) -> list[Tensor]:
    return [torch.rand(channels, dtype=sizes.dtype).add(0.5).requires_grad_(grad) for channels, _ in sizes.stages]


def _margins(sizes: Sizes) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    student, teacher = _stages(sizes)
    return student, [t - 1 for t in teacher], [-margin for margin in _channels(sizes, grad=False)]


def _variances(sizes: Sizes) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    return *_stages(sizes), _channels(sizes, grad=True)


def _embeddings(sizes: Sizes) -> tuple[Tensor, Tensor]:
    shape = sizes.batch, sizes.width
    return _normal(sizes, *shape, grad=True), _normal(sizes, *shape)


def _class_means(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *_embeddings(sizes), _normal(sizes, sizes.classes, sizes.width), _labels(sizes)


def _log_variances(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    return *_embeddings(sizes), _normal(sizes, sizes.batch, sizes.width, grad=True)


def _pair_scores(sizes: Sizes) -> tuple[Tensor, Tensor]:
    return _normal(sizes, sizes.batch, sizes.batch, grad=True), _normal(sizes, sizes.batch, grad=True)


def _noise_scores(sizes: Sizes) -> tuple[Tensor, Tensor]:
    return _normal(sizes, sizes.batch, 1 + sizes.negatives, grad=True), torch.tensor(2.0, dtype=sizes.dtype)


def _layer_errors(sizes: Sizes) -> tuple[Tensor, Tensor]:
    shape = sizes.batch, len(sizes.stages), len(sizes.stages)
    errors, attention = torch.rand(*shape, dtype=sizes.dtype), torch.rand(*shape, dtype=sizes.dtype).softmax(2)
    return errors.requires_grad_(), attention.requires_grad_()


CASES: dict[str, Case] = {
    "kd_loss": Case(_logits),
    "learned_temperature_kd_loss": Case(_learned_temperature),
    "logit_standardized_kd_loss": Case(_logits),
    "dkd_loss": Case(_labelled),
    "nkd_loss": Case(_labelled),
    "uskd_loss": Case(_two_students),
    "wsld_loss": Case(_labelled),
    "ttm_loss": Case(_logits),
    "topk_tail_kl_loss": Case(_top_classes),
    "dist_loss": Case(_logits),
    "class_correlation_loss": Case(_logits),
    "batch_correlation_loss": Case(_logits),
    "mlkd_loss": Case(_logits),
    "label_smoothing_loss": Case(_label_only),
    "virtual_teacher_loss": Case(_label_only),
    "ofa_loss": Case(_labelled, options={"eps": 1.4}),
    "pld_loss": Case(_labelled),
    "generalized_jsd_loss": Case(_logits),
    "balanced_divergence_loss": Case(_logits),
    "mutual_learning_loss": Case(_peers),
    "guided_self_distillation_loss": Case(_labelled, options={"alpha": 0.35}),
    "progressive_self_distillation_loss": Case(_labelled, options={"alpha": 0.8}),
    "softmax_regression_loss": Case(_logits),
    "forward_kl_loss": Case(_tokens),
    "reverse_kl_loss": Case(_tokens),
    "total_variation_loss": Case(_tokens),
    "skew_forward_kl_loss": Case(_tokens),
    "skew_reverse_kl_loss": Case(_tokens),
    "adaptive_kl_loss": Case(_tokens, replace(FULL, tokens=512)),
    "taid_loss": Case(_tokens),
    "topk_decoupled_kl_loss": Case(_tokens),
    "fused_linear_divergence": Case(_heads, replace(FULL, width=512)),
    "hint_loss": Case(_last_stage, _fewer(64)),
    "attention_transfer_loss": Case(_stages, _fewer(4)),
    "activation_boundary_loss": Case(_stages, _fewer(4)),
    "cwd_loss": Case(_stages, _fewer(4)),
    "pkd_loss": Case(_stages, _fewer(4)),
    "hcl_loss": Case(_stages, _fewer(4)),
    "ofd_loss": Case(_margins, _fewer(4)),
    "vid_loss": Case(_variances, _fewer(4)),
    "fsp_loss": Case(_stages, _fewer(4)),
    "ickd_loss": Case(_stages, _fewer(2)),
    "nst_loss": Case(_stages, _fewer(2)),
    "kd_svd_loss": Case(_stages, _fewer(1)),
    "factor_transfer_loss": Case(_factor, _fewer(64)),
    "affinity_loss": Case(_factor, _fewer(4)),
    "feature_relation_loss": Case(_last_stage, _fewer(64)),
    "class_attention_transfer_loss": Case(_class_maps, _fewer(64)),
    "semantic_calibration_loss": Case(_layer_errors),
    "nd_loss": Case(_class_means),
    "pad_l2_loss": Case(_log_variances),
    "srd_loss": Case(_embeddings),
    "fgd_loss": Case(_boxed, _fewer(2), {"image_size": _IMAGE_SIZE}),
    "mgd_loss": Case(_stages, _fewer(4)),
    "frs_loss": Case(_headed, _fewer(4)),
    "fgfi_loss": Case(_anchored, _fewer(4)),
    "cross_kd_loss": Case(_crossed, _fewer(4)),
    "ld_loss": Case(_distributed, _fewer(4), {"levels": _LEVELS}),
    "similarity_preserving_loss": Case(_stages, _fewer(8)),
    "correlation_congruence_loss": Case(_embeddings),
    "pkt_loss": Case(_embeddings),
    "rkd_loss": Case(_embeddings, _fewer(128)),
    "rsd_loss": Case(_embeddings),
    "mi_alpha_loss": Case(_pair_scores),
    "noise_contrastive_loss": Case(_noise_scores, _fewer(64)),
}
