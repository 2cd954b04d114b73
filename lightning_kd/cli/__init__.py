"""The command line, ``lightning-kd``.

The path of a file under :mod:`lightning_kd.cli.commands` is the command: ``commands/bench/run.py`` is
``lightning-kd bench run``. Adding a command is adding a file. Nothing here imports PyTorch before a command runs.
"""
