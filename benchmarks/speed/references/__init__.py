"""Every loss of ``lightning_kd.functional`` as one would write it straight from its formula, under the same name.

They are what the losses' cost is compared with, and no more: they take no care of extreme logits, half precision,
coincident samples or inputs that do not fit. Arguments are those of the losses, in the same order, without the options
that the benchmark leaves at their defaults. Teacher tensors are expected without a gradient.
"""
