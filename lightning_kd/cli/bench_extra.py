"""Guard around the benchmark suite: its dependencies are an extra, and its mistakes are the user's to mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_kd.cli.errors import CommandError

INSTALL = 'python -m pip install "lightning-kd[bench]"'

PACKAGES = {
    "filelock": "filelock",
    "jinja2": "jinja2",
    "kd_bench": "lightning-kd",
    "numpy": "numpy",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torchvision": "torchvision",
    "yaml": "pyyaml",
}
"""Import name → distribution of what the ``bench`` extra brings."""


@contextmanager
def bench_extra() -> Iterator[None]:
    """Import and use ``kd_bench`` inside this block.

    Raises:
        CommandError: if a dependency of the ``bench`` extra is missing (the message has the command that installs
            it), or in place of a :class:`kd_bench.errors.UserError`.
    """
    try:
        from kd_bench.errors import UserError
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    try:
        yield
    except UserError as error:
        raise CommandError(str(error)) from error
    except ModuleNotFoundError as error:
        raise _missing(error) from error


def _missing(error: ModuleNotFoundError) -> Exception:
    name = error.name or ""
    package = PACKAGES.get(name.partition(".")[0])
    if package is None or name.startswith("kd_bench."):  # a defect, not a missing dependency
        return error
    return CommandError(
        f"this command needs the benchmark suite, and {package!r} is not installed (no module named {error.name!r}). "
        f"Install it with: {INSTALL}"
    )
