"""Networks by name: the benchmark's own, and timm's and torchvision's behind a prefix."""

from kd_bench.models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
