"""Distil any LightningModule, and compare distillation methods under one protocol."""
