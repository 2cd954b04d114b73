"""Run the benchmark suite."""
