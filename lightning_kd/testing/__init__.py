"""Trying a distillation method out: tiny networks, and the contract that every method keeps."""

from lightning_kd.testing.contract import CHECKS, TRAINER_CHECKS, CheckResult, run_contract
from lightning_kd.testing.rig import MethodFactory, Rig

__all__ = ["CHECKS", "TRAINER_CHECKS", "CheckResult", "MethodFactory", "Rig", "run_contract"]
