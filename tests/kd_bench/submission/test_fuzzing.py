"""Whatever is done to the files of a submission, the check answers, and what it accepts means one thing only."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile.edits import edit
from hostile.valid import committed_entry
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kd_bench.results import RunSet
from kd_bench.run_set_files import RUN_SET_FILE
from kd_bench.submission.check import CheckReport, check
from kd_bench.submission.problem import RefusedError, is_invisible
from kd_bench.submission.report import report_lines
from kd_bench.submission.strict_json import parse

MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MORE = settings(max_examples=400, deadline=None)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-3, max_value=3)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "0" * 64, "../../x", "<script>alert(1)</script>", "plain", "\x1b[2J", "\u202e", "1e999"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield committed_entry(Path(place))


def copy_of(original: Path, place: str) -> Path:
    leaderboards = Path(place) / "leaderboards"
    shutil.copytree(original.parents[3], leaderboards)
    return leaderboards / original.relative_to(original.parents[3])


def checked(entry: Path) -> CheckReport:
    """The report of an entry that somebody has changed; it can be printed, and what is accepted is unambiguous."""
    report = check([entry], leaderboards=entry.parents[3])
    assert not [line for line in report_lines(report) if any(map(is_invisible, line))]
    if report.ok:
        content = (entry / RUN_SET_FILE).read_bytes()
        run_set = RunSet.model_validate_json(content)
        again = run_set.model_dump_json()
        assert RunSet.model_validate_json(again) == run_set
        assert contains(json.loads(again), json.loads(content))
    return report


def contains(whole: Any, part: Any) -> bool:
    """Whether ``whole`` says all that ``part`` says; what has a default may have been left out."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part and (type(whole) is type(part) or isinstance(whole, float))


REFUSED = object()


def refused_or(make: Callable[[bytes], Any], content: bytes) -> Any:
    """What ``make`` returns, or :data:`REFUSED`."""
    try:
        return make(content)
    except RefusedError:
        return REFUSED


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


mutations = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "insert", "remove"]), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for where, kind, new in changes:
        place = int(where * len(content))
        behind = place + (0 if kind == "insert" else max(len(new), 1))
        content = content[:place] + (b"" if kind == "remove" else new) + content[behind:]
    return content


@MANY
@given(changes=mutations)
def test_bytes_of_a_run_set(original: Path, changes: list[tuple[float, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = copy_of(original, place) / RUN_SET_FILE
        path.write_bytes(mutated(path.read_bytes(), changes))
        checked(path.parent)


@MANY
@given(changes=mutations)
def test_bytes_of_predictions(original: Path, changes: list[tuple[float, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        entry = copy_of(original, place)
        before = (entry / "seed-0.npz").read_bytes()
        content = mutated(before, changes)
        (entry / "seed-0.npz").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        edit(entry, lambda run_set: run_set["runs"][0].update(predictions_sha256=digest))
        # whoever may change a time stamp in an archive has changed nothing else
        assert not checked(entry).ok or len(content) == len(before)


@MANY
@given(data=st.data(), value=values)
def test_values_of_a_run_set(original: Path, data: st.DataObject, value: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        entry = copy_of(original, place)
        content = json.loads((entry / RUN_SET_FILE).read_text())
        # each of the many numbers of a curve is as good as any other
        known = [each for each in places(content) if "curve" not in each or each[-1] in (0, "curve", "train_loss")]
        *path, last = data.draw(st.sampled_from(known))
        owner = content
        for key in path:
            owner = owner[key]
        owner[last] = value
        (entry / RUN_SET_FILE).write_text(json.dumps(content))
        checked(entry)


@MORE
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 100_000)
@example(content=b'"' + b'\\"' * 100_000)
@example(content=b"9" * 100_000)
@example(content=b"0." + b"9" * 100_000)
def test_arbitrary_bytes_are_parsed_or_refused(content: bytes) -> None:
    refused_or(parse, content)


@MORE
@given(value=values)
def test_parsed_values_are_those_that_were_written(value: Any) -> None:
    try:
        written = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    found = refused_or(parse, written)
    assert found is REFUSED or found == value
