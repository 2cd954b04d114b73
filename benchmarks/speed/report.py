"""Measure everything that is about speed, print it, write ``docs/speed.md``, and say whether a target was missed."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import growth
import lightning as L
import overhead
import startup
import torch
import vocabulary
from losses import machine
from measure import keep_memory
from peers import compare, with_torchdistill
from peers.pair import METHODS
from quiet import quiet
from rich.console import Console
from rich.progress import Progress

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
PLOT = "images/growth.png"

ENGINE_LIMIT = 1.03
STARTUP_LIMIT = 1.0
PEER_LIMIT = 0.97
WARM_LIMIT = 2.0
MEMORY_LIMIT = 1 / 8
GROWTH_LIMIT = 1.1


@dataclass
class Report:
    """Sections of the page, and the targets that were missed."""

    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def expect(self, met: bool, what: str) -> None:
        """Note a target that was missed."""
        if not met:
            self.missed.append(what)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a Markdown table whose first column is text."""
        self.lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
        self.lines += [f"| {' | '.join(row)} |" for row in rows]
        self.lines.append("")


def engine(report: Report, rounds: int, progress: Progress) -> None:
    """What the engine adds to a step, and to the start."""
    options = argparse.Namespace(width=16, batch_size=32, steps=25)
    kinds = ("by hand", "door 1", "door 2")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in progress.track(range(rounds), description="engine"):
        for kind in kinds if number % 2 else reversed(kinds):
            seconds[kind].append(overhead.run(kind, options))
    rows = []
    for kind in kinds:
        ratios = [ours / hand for ours, hand in zip(seconds[kind], seconds["by hand"], strict=True)]
        ratio = statistics.median(ratios)
        rows.append([kind, f"{1e3 * statistics.median(seconds[kind]):.1f}", f"{ratio:.3f}", _span(ratios)])
        report.expect(ratio <= ENGINE_LIMIT, f"{kind}: a step takes {ratio:.3f} times that of the loop by hand")
    report.lines += [
        "## What the engine adds",
        "",
        "A student of three stages with KD and attention transfer: written into the LightningModule by hand, and "
        "through both doors.",
        "",
    ]
    report.table(["", "ms a step", "ratio", "lowest to highest"], rows)
    plain, distilled = startup.measure(rounds=7)
    report.expect(distilled - plain <= STARTUP_LIMIT, f"fit starts {distilled - plain:.2f} s later")
    report.lines += [
        f"`fit` with one step, small networks: {plain:.2f} s without distillation, {distilled:.2f} s with KD and "
        "FitNet, whose regressor is sized by a dry run (medians of 7).",
        "",
        "No step waits for the device more often than without distillation, and nothing is kept from step to step: "
        "`tests/engine/test_no_hidden_cost.py` counts.",
        "",
    ]


def peers(report: Report, plan: compare.Plan, progress: Progress) -> None:
    """Against a loop by hand and torchdistill."""
    names = compare.sides()
    task = progress.add_task("peers", total=len(METHODS) * len(names) * plan.rounds)
    rows = []
    for method in METHODS:
        rates = compare.compare(method, plan, lambda: progress.advance(task))
        for name in names:
            rate = rates[name]
            rows.append(
                [method, name, f"{rate.samples:.1f}", f"{rate.ratio:.2f}", f"{rate.low:.2f} to {rate.high:.2f}"]
            )
        for door in (compare.DOOR_1, compare.DOOR_2):
            ratio = rates[door].ratio
            report.expect(ratio >= PEER_LIMIT, f"{method}, {door}: {ratio:.2f} times the loop by hand")
            if compare.TORCHDISTILL in rates:
                against = rates[door].samples / rates[compare.TORCHDISTILL].samples
                report.expect(against >= PEER_LIMIT, f"{method}, {door}: {against:.2f} times torchdistill")
        for side in (compare.WARM_1, compare.WARM_2):
            ratio = rates[side].ratio
            report.expect(ratio >= WARM_LIMIT, f"{method}, {side}: {ratio:.2f} times the loop by hand")
    version = with_torchdistill.available()
    cost = compare.teacher_cost(plan)
    report.lines += [
        "## Against a loop by hand and torchdistill",
        "",
        f"{plan.teacher} teaches {plan.student}; images of 32x32 pixels from a memory-mapped file, cropped and "
        f"mirrored, batches of {plan.batch_size}, the same optimizer, losses and layers everywhere. The teacher's "
        f"forward pass takes {cost:.1f} times the student's forward and backward. The loop by hand is plain PyTorch "
        f"with this library's losses; torchdistill ({version or 'not installed, so not measured'}) uses its own.",
        "",
    ]
    report.table(["method", "", "samples/s", "ratio to by hand", "lowest to highest"], rows)
    report.lines += [
        "Through the doors FitNet's teacher is left after the layer that is compared, and RKD's before its head, which "
        "the other sides do not do. With a [warm cache](teacher-cache.md) the teacher is not run at all.",
        "",
    ]


def large_vocabulary(report: Report, progress: Progress) -> None:
    """The fused linear divergence."""
    task = progress.add_task("vocabulary", total=1)
    dense, fused = vocabulary.measure()
    progress.advance(task)
    share = fused.peak_bytes / dense.peak_bytes
    report.expect(share <= MEMORY_LIMIT, f"the fused loss needs {share:.2f} of the dense one's memory")
    report.lines += [
        "## Large vocabularies",
        "",
        f"Forward KL, forward and backward, at {vocabulary.TOKENS:,} tokens, a vocabulary of "
        f"{vocabulary.VOCABULARY:,} and hidden states of width {vocabulary.WIDTH:,}: `fused_linear_divergence` against "
        "`forward_kl_loss` on whole logits. Gradients are included: that of the head alone takes "
        f"{4 * vocabulary.VOCABULARY * vocabulary.WIDTH / 1e9:.2f} GB.",
        "",
    ]
    rows = [
        [name, f"{cost.peak_bytes / 1e9:.2f}", f"{cost.seconds:.0f}"]
        for name, cost in (("whole logits", dense), ("fused", fused))
    ]
    report.table(["", "GB beside the inputs", "s"], rows)


def sizes(report: Report, rounds: int, progress: Progress, plot: Path) -> None:
    """How step time and memory grow."""
    task = progress.add_task("growth", total=sum(len(axis.sizes) for axis in growth.AXES) * rounds)
    measured = {axis.name: growth.measure(axis, rounds, lambda: progress.advance(task)) for axis in growth.AXES}
    rows = []
    for name, points in measured.items():
        time_slope = growth.exponent(points, lambda point: point.seconds)
        memory_slope = growth.exponent(points, lambda point: point.megabytes)
        for point in points:
            last = point is points[-1]
            slopes = [f"{time_slope:.2f}", f"{memory_slope:.2f}"] if last else ["", ""]
            rows.append([name, f"{point.size:,}", f"{1e3 * point.seconds:.1f}", f"{point.megabytes:.1f}", *slopes])
        report.expect(time_slope <= GROWTH_LIMIT, f"step time grows with {name} to the power {time_slope:.2f}")
        report.expect(memory_slope <= GROWTH_LIMIT, f"memory grows with {name} to the power {memory_slope:.2f}")
    report.lines += [
        "## Growth",
        "",
        "A training step through the callback door, and the most that it allocates. The slope is that between the two "
        "largest sizes on logarithmic axes: 1 is linear. Methods at once share one forward pass of the teacher.",
        "",
        f"![Step time and memory against batch size, methods, taps, classes and peers]({PLOT})",
        "",
    ]
    report.table(["", "size", "ms a step", "MB", "slope of time", "slope of memory"], rows)
    growth.plot(measured, plot)


def page(report: Report, date: str) -> str:
    """The page of the documentation."""
    head = [
        "# Speed",
        "",
        f"Measured by `make speed` on {date}: {machine()}, {_versions()}. One thread; times are processor times of "
        "this process, medians over steps and rounds in which the sides take turns; ratios are medians of those "
        "within a round. What the losses cost is [apart](cost.md).",
        "",
    ]
    missed = [f"* {what}" for what in report.missed]
    verdict = (
        ["## Targets missed in this run", "", *missed, ""]
        if missed
        else ["All targets of `benchmarks/speed/report.py` were met in this run.", ""]
    )
    return "\n".join(_wrapped([*head, *verdict, *report.lines])).rstrip() + "\n"


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if len(line) <= 120 or line.startswith(("|", "!")):
            yield line
        else:
            indent = "  " if line.startswith("* ") else ""
            yield from textwrap.wrap(
                line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def _versions() -> str:
    pytorch = torch.__version__.partition("+")[0]
    return f"Python {platform.python_version()}, PyTorch {pytorch}, Lightning {L.__version__}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", required=True, help="date of the run, for the page")
    parser.add_argument("--output", type=Path, default=PAGE, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns")
    parser.add_argument("--skip", nargs="*", default=[], choices=["engine", "peers", "vocabulary", "growth"])
    parser.add_argument("--loud", action="store_true", help="show what Lightning says")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    report = Report()
    # a copy of standard error, for the bar: the original is closed meanwhile
    console = Console(file=open(os.dup(2), "w", encoding="utf-8"), force_terminal=sys.stderr.isatty())  # noqa: SIM115
    with nullcontext() if options.loud else quiet(), Progress(console=console) as progress:
        if "engine" not in options.skip:
            engine(report, options.rounds, progress)
        if "peers" not in options.skip:
            peers(report, compare.Plan(rounds=options.rounds), progress)
        if "vocabulary" not in options.skip:
            large_vocabulary(report, progress)
        if "growth" not in options.skip:
            sizes(report, options.rounds, progress, options.output.parent / PLOT)
    text = page(report, options.date)
    options.output.write_text(text, encoding="utf-8")
    print(text)
    for what in report.missed:
        print(f"missed: {what}", file=sys.stderr)
    return 1 if report.missed else 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main())
