"""Data sets of the benchmark, as LightningDataModules in which a seed determines every batch."""
