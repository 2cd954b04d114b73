"""Every loss as a pure function on tensors, usable without Lightning. Nothing is defined here."""

from lightning_kd.methods.logits.kd import kd_loss

__all__ = ["kd_loss"]
