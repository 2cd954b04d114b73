"""kd_bench: compare distillation methods under one protocol, and publish the result where anyone can check it."""
