"""Run sets that are not JSON as we write it: numbers, texts, depth, encoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile.table import case, edited, rewritten

rewritten("NaN", "number", "NaN", '"nll": 0.', '"nll": NaN, "x": 0.')
rewritten("infinity", "number", "Infinity", '"seconds": ', '"seconds": Infinity, "x": ')
rewritten("overflow to infinity", "number", "too large", '"seconds": ', '"seconds": 1e999, "x": ')
rewritten("denormal number", "number", "too small", '"seconds": ', '"seconds": 5e-324, "x": ')
rewritten("number that rounds to zero", "number", "too small", '"seconds": ', '"seconds": 1e-999, "x": ')
rewritten("integer of ten thousand digits", "number", "2^53", '"epoch": ', f'"epoch": {"9" * 10_000}, "x": ')
rewritten("integer beyond 2^53", "number", "2^53", '"epoch": ', '"epoch": 9007199254740993, "x": ')
rewritten("key twice", "json", "twice", '"track": "general"', '"track": "general", "track": "tuned"')
rewritten("comment", "json", "not JSON", '"track"', '/* general */ "track"')
rewritten("deep nesting of lists", "json", "nested", '"temperature": 4.0', f'"temperature": {"[" * 200}{"]" * 200}')
rewritten("endless nesting", "json", "nested", '"temperature": 4.0', f'"temperature": {"[" * 200_000}')
rewritten("unknown key", "schema", "rank", '"track"', '"rank": 1, "track"')
rewritten("null byte", "json", "null", '"track"', '\x00"track"')


@case("byte order mark", "json", "byte order mark")
def _(entry: Path) -> None:
    (entry / "run_set.json").write_bytes(b"\xef\xbb\xbf" + (entry / "run_set.json").read_bytes())


@case("not UTF-8", "json", "UTF-8")
def _(entry: Path) -> None:
    content = (entry / "run_set.json").read_bytes()
    (entry / "run_set.json").write_bytes(content.replace(b"AMD", b"\xff\xfe"))


@case("UTF-16", "json", "null bytes")
def _(entry: Path) -> None:
    (entry / "run_set.json").write_bytes((entry / "run_set.json").read_text().encode("utf-16-le"))


@case("empty file", "json", "not JSON")
def _(entry: Path) -> None:
    (entry / "run_set.json").write_bytes(b"")


@case("a list", "schema", "RunSet")
def _(entry: Path) -> None:
    (entry / "run_set.json").write_text("[]")


@case("quotes that never end", "json", "not JSON")
def _(entry: Path) -> None:
    (entry / "run_set.json").write_text('"' + '\\"' * 900_000)


edited("string for a number", "schema", "accuracy", lambda r: r["runs"][0]["last"].update(accuracy="0.99"))
edited("boolean for a number", "schema", "accuracy", lambda r: r["runs"][0]["last"].update(accuracy=True))
edited("boolean for an integer", "schema", "parameters", lambda r: r["student"].update(parameters=True))
edited("number for a boolean", "schema", "extra_data", lambda r: r.update(extra_data=0))
edited("negative accuracy", "schema", "accuracy", lambda r: r["runs"][0]["last"].update(accuracy=-0.5))
edited("accuracy above one", "schema", "accuracy", lambda r: r["runs"][0]["last"].update(accuracy=1.5))
edited("percent for a fraction", "schema", "accuracy", lambda r: r["runs"][0]["last"].update(accuracy=97.1))
edited("negative time", "schema", "seconds", lambda r: r["runs"][0].update(seconds=-1.0))
edited("no time at all", "number", "seconds", lambda r: r["runs"][0].update(seconds=1e-9))
edited("time of ages", "number", "seconds", lambda r: r["runs"][0].update(seconds=1e300))
edited("memory of a byte", "number", "peak_memory_mb", lambda r: r["runs"][0].update(peak_memory_mb=1e-6))
edited(
    "huge number in a parameter", "number", "temperature", lambda r: r["method"]["parameters"].update(temperature=1e300)
)
edited("seed twice", "schema", "seed", lambda r: r["runs"][1].update(seed=0))
edited("seeds out of order", "schema", "sorted", lambda r: r["runs"].reverse())
edited("two seeds only", "seeds", "at least 3", lambda r: r.update(runs=r["runs"][:2]))
edited("no seeds", "schema", "runs", lambda r: r.update(runs=[]))
edited("best below last", "schema", "best", lambda r: r["runs"][0]["best"].update(accuracy=0.1))
edited("mean of the seeds", "schema", "mean", lambda r: r.update(mean=0.97))
edited("future schema", "schema", "schema_version", lambda r: r.update(schema_version=2))
edited("verified by itself", "verification", "claimed", lambda r: r.update(verification="retrained"))
edited("other track", "track", "general", lambda r: r.update(track="tuned"))
edited("epochs left out", "epochs", "50", lambda r: r["runs"][0]["curve"].update(_short(r["runs"][0]["curve"])))
edited("device is a terminal sequence", "text", "U+001B", lambda r: r["runs"][0].update(device="cpu\x1b[2J"))
edited("right-to-left override", "text", "U+202E", lambda r: r["environment"].update(cpu="AMD \u202eCPYE"))
edited("zero-width space", "text", "U+200B", lambda r: r["environment"].update(cpu="AMD\u200b EPYC"))
edited("invisible letter", "text", "U+3164", lambda r: r["environment"].update(cpu="\u3164"))
edited("tag characters", "text", "U+E0041", lambda r: r.update(contact="me\U000e0041"))
edited("private characters", "text", "U+E000", lambda r: r.update(contact="\ue000"))
edited("line breaks", "text", "U+000A", lambda r: r.update(contact="me\n::set-output name=x::y"))
edited("not normalised", "text", "normal form", lambda r: r.update(contact="Jose\u0301"))
edited("piled-up marks", "text", "combining", lambda r: r.update(contact="x\u0334\u0338\u0489\u0335"))
edited("lone surrogate", "schema", "", lambda r: r.update(contact="\ud800"))
edited("script as a contact", "text", "script", lambda r: r.update(contact="javascript:alert(1)"))
edited("address of a paper is a script", "text", "arxiv", lambda r: r["method"]["citation"].update(arxiv="x' onload=y"))
edited("class path is code", "text", "class_path", lambda r: r["method"].update(class_path="__import__('os').x"))
edited("long text", "schema", "device", lambda r: r["runs"][0].update(device="x" * 501))
edited("many parameters", "schema", "20,000", lambda r: r["method"].update(parameters={"x": "y" * 30_000}))


def _short(curve: dict[str, Any]) -> dict[str, Any]:
    return {name: values[:-1] for name, values in curve.items()}
