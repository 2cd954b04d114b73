"""What both doors drive: attaching to a LightningModule, taps, teachers, the exchange, the optimizers.

One file a question: ``attach`` (patch and un-patch an instance), ``network`` (which sub-module is distilled), ``taps``
(capturing layers), ``stages`` (which layers are worth capturing), ``dry_run`` (shapes before training), ``teacher``,
``target`` and ``logits`` (where things are in a batch or an output), ``optimizers``, and ``engine``, which ties them.
"""
