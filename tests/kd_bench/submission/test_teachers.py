"""The registry of teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.edits import edit
from hostile.valid import COMMITTED, committed_entry, detector_entry
from kd_bench.protocol import Protocol, TeacherSource, list_protocols, load_protocol
from kd_bench.results import RunSet, TeacherInfo
from kd_bench.run_set_files import load_run_sets
from kd_bench.submission.candidate import read_candidate
from kd_bench.submission.finding import Context, Finding
from kd_bench.submission.teacher_rules import teacher_known
from kd_bench.submission.teachers import (
    REGISTRY,
    TOLERANCE,
    TeacherRegistry,
    read_registry,
    register,
    write_registry,
)
from pydantic import ValidationError

NONE = TeacherRegistry(protocols={})


def found(
    entry: Path, registry: TeacherRegistry | None = None, protocol: Protocol | None = None, **teacher: object
) -> list[Finding]:
    """What the rule says about an entry whose teacher was changed."""
    if teacher:
        edit(entry, lambda run_set: run_set["teacher"].update(teacher))
    candidate, _ = read_candidate(entry)
    assert candidate is not None
    known = read_registry(COMMITTED) if registry is None else registry
    protocols = {each.id: each for each in list_protocols()}
    if protocol is not None:
        protocols[protocol.id] = protocol
    return list(teacher_known(candidate, Context(protocols, known, {})))


def test_the_teacher_of_every_committed_entry_is_registered() -> None:
    registry = read_registry(COMMITTED)
    run_sets = load_run_sets(COMMITTED)
    assert len(run_sets) > 80
    for run_set in run_sets:
        known = registry.known(run_set.protocol.id, run_set.teacher.name)
        assert any(teacher.describes(run_set.teacher) for teacher in known), run_set


def test_the_committed_registry_holds_nothing_else_than_what_entries_need() -> None:
    registry = read_registry(COMMITTED)
    again = register(NONE, load_run_sets(COMMITTED), list_protocols(), "the maintainers")
    for protocol, teachers in again.protocols.items():
        for name, known in teachers.items():
            assert {each.weights_sha256 for each in known} <= {
                each.weights_sha256 for each in registry.known(protocol, name)
            }


def test_registering_twice_changes_nothing(tmp_path: Path) -> None:
    run_set = RunSet.model_validate_json((committed_entry(tmp_path) / "run_set.json").read_bytes())
    once = register(NONE, [run_set], list_protocols(), "somebody")
    assert register(once, [run_set], list_protocols(), "somebody else") == once
    (teacher,) = once.known("digits-v1", "mini_resnet14")
    assert (teacher.origin, teacher.added_by, teacher.source) == ("trained on the spot", "somebody", None)
    assert once.known("digits-v1", "other") == once.known("other", "mini_resnet14") == ()


def test_a_published_teacher_is_registered_with_its_source(tmp_path: Path) -> None:
    protocol = load_protocol("cifar100-v1")
    name, source = next((name, source) for name, source in protocol.teachers.items() if source.source is not None)
    run_set = RunSet.model_validate_json((committed_entry(tmp_path) / "run_set.json").read_bytes())
    info = TeacherInfo(name=name, weights_sha256="1" * 64, accuracy=0.7, parameters=5)
    published = run_set.model_copy(
        update={"protocol": run_set.protocol.model_copy(update={"id": protocol.id}), "teacher": info}
    )
    (teacher,) = register(NONE, [published], [protocol], "somebody").known(protocol.id, name)
    assert (teacher.origin, teacher.source, teacher.source_sha256) == ("published", source.source, source.sha256)


def test_a_registry_is_read_as_it_was_written(tmp_path: Path) -> None:
    registry = read_registry(COMMITTED)
    assert write_registry(tmp_path, registry).name == REGISTRY
    assert read_registry(tmp_path) == registry
    assert (tmp_path / REGISTRY).read_bytes() == (COMMITTED / REGISTRY).read_bytes()
    assert read_registry(tmp_path / "nothing") == NONE


def test_weights_are_registered_once() -> None:
    content = read_registry(COMMITTED).model_dump(mode="json")
    content["protocols"]["digits-v1"]["mini_resnet14"] *= 2
    with pytest.raises(ValidationError, match="twice"):
        TeacherRegistry.model_validate(content, strict=False)


@pytest.mark.parametrize("make", [committed_entry, detector_entry])
def test_a_registered_teacher_is_accepted(make: object, tmp_path: Path) -> None:
    assert callable(make)
    assert found(make(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 0.98}, "registered with a score"),
        ({"parameters": 174971}, "registered with a score"),
        ({"weights_sha256": "1" * 64, "accuracy": 0.5}, "more than"),
        ({"weights_sha256": "1" * 64, "parameters": 174971}, "another network"),
    ],
)
def test_another_teacher_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    (finding,) = found(committed_entry(tmp_path), **change)
    assert finding.rule == "teacher"
    assert not finding.notice
    assert message in finding.message


@pytest.mark.parametrize("difference", [-0.9 * TOLERANCE, 0.0, 0.9 * TOLERANCE])
def test_a_new_teacher_trained_on_the_spot_is_for_a_maintainer_to_confirm(difference: float, tmp_path: Path) -> None:
    score = read_registry(COMMITTED).known("digits-v1", "mini_resnet14")[0].score
    (finding,) = found(committed_entry(tmp_path), weights_sha256="1" * 64, accuracy=score + difference)
    assert finding.notice
    assert "A maintainer adds it" in finding.message or "a maintainer adds it" in finding.message


def test_a_published_teacher_has_no_second_file(tmp_path: Path) -> None:
    published = load_protocol("digits-v1").model_copy(
        update={"teachers": {"mini_resnet14": TeacherSource(source="https://example.org/weights.pt")}}
    )
    (finding,) = found(committed_entry(tmp_path), protocol=published, weights_sha256="1" * 64)
    assert not finding.notice
    assert "another teacher" in finding.message


@pytest.mark.parametrize(("accuracy", "notice"), [(0.985, True), (0.9, False)])
def test_the_first_of_a_published_teacher_is_as_good_as_its_authors_say(
    accuracy: float, notice: bool, tmp_path: Path
) -> None:
    source = TeacherSource(source="https://example.org/weights.pt", accuracy=accuracy)
    published = load_protocol("digits-v1").model_copy(update={"teachers": {"mini_resnet14": source}})
    (finding,) = found(committed_entry(tmp_path), NONE, published)
    assert finding.notice is notice
