"""What each loss costs, forward and backward, against the same loss written straight from its formula."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from loss_cases import CASES, leaves, loss, reference, shape
from measure import Timing, compare_times, keep_memory, peak_bytes, step
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

LIMIT = 1.1
"""A loss is to take no more than this times its reference."""

_PAGE = """# What the losses cost

Time and memory of every loss in `lightning_kd.functional`, forward and backward, against the same loss as one would
write it straight from its formula (`benchmarks/speed/references`). Both compute the same value and gradients, which is
checked before they are timed. The page is written by

```
python benchmarks/speed/losses.py --date {date} --output docs/cost.md
```

* **ms**: median of the processor times of one call; **ratio**: median of the ratios of the two calls in a round, with
  quartiles. Below 1 the loss is the faster one. {over} Freed memory is kept, so no page faults are timed.
* **MB**: the most that PyTorch has allocated at one time in a call, gradients included, beside the inputs. The same in
  every run.
* **input**: shape of the student's side. *Bx4 stages* are the stage outputs of a ResNet-50 at 224x224 pixels for a
  batch of B, which is as large as keeps a call below a second or so: (B, 256, 56, 56), (B, 512, 28, 28),
  (B, 1024, 14, 14) and (B, 2048, 7, 7). RKD's reference needs memory that grows with B²D, hence its smaller batch.
* Why some stay above 1: checks and casts cost microseconds, which shows on the cheapest losses; PLD, and adaptive KL
  more so, sort stably, so that ties are broken alike everywhere; the top-K loss sums what is outside the top instead of
  subtracting from one, and MI-alpha leaves out one score at a time without the cancellation that its reference has, for
  which it keeps one more small matrix.
* Machine: {machine}; PyTorch {torch}, one thread, float32, {date}.

| loss | input | ms | reference ms | ratio | quartiles | MB | reference MB | ratio |
|---|---|---:|---:|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Row:
    """The cost of one loss."""

    name: str
    shape: str
    timing: Timing
    peak: int
    reference_peak: int

    @property
    def cells(self) -> list[str]:
        """The row in words."""
        timing = self.timing
        return [
            self.name.removesuffix("_loss"),
            self.shape,
            _significant(1e3 * timing.seconds),
            _significant(1e3 * timing.reference_seconds),
            f"{timing.ratio:.2f}",
            f"{timing.low:.2f}-{timing.high:.2f}",
            _significant(self.peak / 1e6),
            _significant(self.reference_peak / 1e6),
            f"{self.peak / self.reference_peak:.2f}",
        ]


def measure(name: str, seconds: float) -> Row:
    """Check that the loss and its reference agree, then measure both."""
    torch.manual_seed(0)
    case = CASES[name]
    arguments = case.make(case.sizes)
    inputs = leaves(arguments)
    ours = step(lambda: loss(name)(*arguments, **case.options), inputs)
    theirs = step(lambda: reference(name)(*arguments, **case.options), inputs)
    check_agreement(name, ours(), theirs())
    timing = compare_times(ours, theirs, seconds)
    return Row(name, shape(arguments), timing, peak_bytes(ours), peak_bytes(theirs))


def check_agreement(name: str, results: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless value and gradients agree, each to a thousandth of its length."""
    for position, (ours, theirs) in enumerate(zip(results, expected, strict=True)):
        error, length = (ours - theirs).norm().item(), theirs.norm().item()
        if not error <= 1e-3 * length:
            what = f"gradient {position}" if position else "value"
            raise ValueError(f"{name} differs from its reference: {what} by {error:.3g} of {length:.3g}")


def machine() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names) or 'unknown number of'} cores, shared"


def page(rows: Sequence[Row], date: str) -> str:
    """The results as a page of the documentation."""
    slow = [row.name.removesuffix("_loss") for row in rows if row.timing.ratio > LIMIT]
    over = f"Above {LIMIT}: {', '.join(slow)}." if slow else f"None is above {LIMIT}."
    head = _PAGE.format(date=date, over=over, machine=machine(), torch=torch.__version__.partition("+")[0])
    return head + "".join(f"| {' | '.join(row.cells)} |\n" for row in rows)


def show(rows: Sequence[Row]) -> None:
    """Print the results as a table."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="Forward and backward against the reference")
    for column in ("loss", "input", "ms", "ref", "ratio", "quartiles", "MB", "ref", "ratio"):
        table.add_column(column, justify="left" if column in ("loss", "input") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells, style="bold" if row.timing.ratio > LIMIT else None)
    Console(width=100).print(table)


def _significant(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, if wanted, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=sorted(CASES), metavar="LOSS", help="names of losses, all if absent"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each loss")
    parser.add_argument("--output", type=Path, help="write the results as Markdown")
    parser.add_argument("--date", help="date of the run, for the page")
    options = parser.parse_args(arguments)
    if options.output and not options.date:
        parser.error("--output needs --date, the day the page is to name")
    torch.set_num_threads(1)
    console = Console(stderr=True)
    rows = []
    for name in options.only or CASES:
        with console.status(name):
            rows.append(measure(name, options.seconds))
    show(rows)
    if options.output:
        options.output.write_text(page(rows, options.date), encoding="utf-8")


if __name__ == "__main__":
    keep_memory()
    main()
