"""The networks of the CIFAR-100 distillation protocol, with the parameter names of the public checkpoints.

They are meant for images of 32×32 pixels and take other sizes as well, since they average the last map whatever its
size. Each class names its stage outputs in ``distillation_stages``; ``layers="auto"`` compares those. No network
computes its features a second time to expose them: they are taken where they arise, by tapping the layer.
"""
