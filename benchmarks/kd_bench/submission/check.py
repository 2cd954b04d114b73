"""Check a submission without executing anything of it: what CI does, and what a submitter does before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kd_bench.corrections import CORRECTIONS, Correction
from kd_bench.entries import RESULTS
from kd_bench.errors import UserError
from kd_bench.protocol import Protocol, list_protocols
from kd_bench.submission.candidate import Candidate, read_candidate
from kd_bench.submission.finding import Context, Finding
from kd_bench.submission.folder import MAX_CORRECTION, MAX_REGISTRY, read_file
from kd_bench.submission.history import corrections_match, verifications_match
from kd_bench.submission.problem import Problem, RefusedError
from kd_bench.submission.recompute import check_predictions
from kd_bench.submission.repetition import own_predictions
from kd_bench.submission.rules import check_rules
from kd_bench.submission.schema import SCHEMA, schema_text
from kd_bench.submission.strict_json import parse_model
from kd_bench.submission.targets import Targets, leaderboards_of
from kd_bench.submission.teachers import REGISTRY, TeacherRegistry
from kd_bench.submission.text_fields import text_problems

LEADERBOARDS = "leaderboards"
"""Where a checkout has them, relative to its top."""


MAX_FINDINGS = 50
"""Findings of a kind about an entry that are told; a submission does not fill the log."""


@dataclass(frozen=True)
class CheckReport:
    """What was checked and what was found.

    Attributes:
        entries: folders of the entries that were looked at.
        problems: why they are refused; empty if all is well.
        notices: what does not speak against them, but should be confirmed by a maintainer.
        files: number of other files that were checked: corrections, the registry of teachers, the schema.
    """

    entries: tuple[str, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Problem, ...] = ()
    files: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is refused."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 if nothing is refused, else 1."""
        return 0 if self.ok else 1


def check(
    paths: Sequence[Path | str],
    *,
    base: Path | str | None = None,
    leaderboards: Path | str | None = None,
    maintainer: bool = False,
) -> CheckReport:
    """Check entries, corrections, or whole leaderboards.

    Nothing of them is executed, unpickled, followed or written, and no file is read that is larger than such files are.

    Args:
        paths: entries, ``results`` or a folder below, ``corrections``, single files of these, whole ``leaderboards``,
            or the output of a benchmark.
        base: the leaderboards before the submission. Teachers are looked up there, not in the submission, and what is
            published there may only be added to.
        leaderboards: those that the submission is for; by default those that it lies in, else ``leaderboards`` in the
            working directory.
        maintainer: whether a maintainer answers for it; see :func:`kd_bench.submission.changes.compare_with_base`.

    Raises:
        UserError: if ``base`` or ``leaderboards`` is no folder.
    """
    targets = Targets()
    for path in paths:
        targets.add(Path(path))
    around = _around(targets, None if leaderboards is None else Path(leaderboards))
    checking = _Checking(targets, around, _folder(base))
    checking.run()
    if base is not None and around is not None:
        checking.problems += _changes(around, Path(base), maintainer)
    return CheckReport(
        tuple(str(path) for path in targets.entries.values()),
        tuple(dict.fromkeys(checking.problems)),
        tuple(dict.fromkeys(checking.notices)),
        len(targets.corrections) + len(targets.files),
    )


@dataclass
class _Checking:
    """A check under way.

    Attributes:
        targets: what is checked.
        around: the leaderboards that it is for.
        base: the leaderboards before it.
        problems: found so far.
        notices: found so far.
    """

    targets: Targets
    around: Path | None
    base: Path | None
    problems: list[Problem] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)

    def run(self) -> None:
        self.problems += self.targets.problems
        candidates: dict[str, Candidate] = {}
        for folder in self.targets.entries.values():
            candidate, problems = read_candidate(folder)
            self.problems += problems
            if candidate is None:
                continue
            if candidate.run_set.protocol.id in _protocols():
                self._add(folder, check_predictions(candidate))
            candidate.forget()
            if (twin := candidates.setdefault(candidate.path, candidate)) is not candidate:
                self.problems.append(Problem(str(folder), "path", f"is the same entry as {twin.folder}"))
        published = self._published(candidates)
        corrections = self._corrections()
        everything = {**published, **candidates}
        registry = self._registry()
        for path, candidate in candidates.items():
            others = {name: other for name, other in everything.items() if name != path}
            context = Context(_protocols(), registry, others)
            self._add(candidate.folder, check_rules(candidate, context))
            if candidate.run_set.protocol.id in _protocols():
                self._add(candidate.folder, own_predictions(candidate, context))
            own = [one for one in corrections.values() if one.entry == path]
            self._add(candidate.folder, verifications_match(candidate, own))
        self._check_corrections(corrections, everything)
        self._check_files()

    def _add(self, place: Path, findings: Iterator[Finding] | list[Finding]) -> None:
        for number, finding in enumerate(findings):
            if number == MAX_FINDINGS:
                self.problems.append(Problem(str(place), "files", f"has more than {MAX_FINDINGS} problems"))
                break
            path = place / finding.file if finding.file else place
            problem = Problem(str(path), finding.rule, finding.message)
            (self.notices if finding.notice else self.problems).append(problem)

    def _published(self, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
        """The other entries of the same protocols, with which those that are checked are compared."""
        found: dict[str, Candidate] = {}
        protocols = {path.partition("/")[0] for path in candidates}
        known = {path.resolve() for path in self.targets.entries}
        for root in filter(None, dict.fromkeys((self.base, self.around))):
            others = Targets()
            for protocol in sorted(protocols):
                if (root / RESULTS / protocol).is_dir():
                    others.add(root / RESULTS / protocol)
            for folder in others.entries.values():
                if folder.resolve() in known:
                    continue
                candidate, _ = read_candidate(folder)
                if candidate is not None:
                    candidate.forget()
                    found.setdefault(candidate.path, candidate)
        return found

    def _registry(self) -> TeacherRegistry | None:
        trusted = self.base if self.base is not None else self.around
        path = None if trusted is None else trusted / REGISTRY
        if path is None or not path.exists():
            return None
        try:
            return parse_model(read_file(path, MAX_REGISTRY), TeacherRegistry)
        except RefusedError as refusal:
            self.problems.append(refusal.at(path))
            return None

    def _corrections(self) -> dict[str, Correction]:
        """All corrections: those that are checked, and those around them."""
        everything = Targets()
        if self.around is not None and (self.around / CORRECTIONS).is_dir():
            everything.add(self.around / CORRECTIONS)
        found = {}
        for path in {**everything.corrections, **self.targets.corrections}.values():
            checked = path.absolute() in self.targets.corrections
            try:
                correction = parse_model(read_file(path, MAX_CORRECTION), Correction)
            except RefusedError as refusal:
                if checked:
                    self.problems.append(refusal.at(path))
                continue
            if path.name == f"{correction.id}.json":
                found[correction.id] = correction
            elif checked:
                message = f"has the id {correction.id!r}; name the file {correction.id}.json"
                self.problems.append(Problem(str(path), "correction", message))
        return found

    def _check_corrections(self, corrections: Mapping[str, Correction], entries: Mapping[str, Candidate]) -> None:
        places = {path.stem: path for path in self.targets.corrections.values()}
        known = dict(entries)
        # those of protocols of which no entry is checked
        for name in {one.entry for key, one in corrections.items() if key in places} - known.keys():
            folder = None if self.around is None else self.around / RESULTS / name
            candidate = None if folder is None or not folder.is_dir() else read_candidate(folder)[0]
            if candidate is not None and candidate.path == name:
                candidate.forget()
                known[name] = candidate
        for name, finding in corrections_match(corrections, known):
            if name in places:
                self._add(places[name], [finding])

    def _check_files(self) -> None:
        for path in self.targets.files.values():
            try:
                content = read_file(path, MAX_REGISTRY)
                if path.name == REGISTRY:
                    registry = parse_model(content, TeacherRegistry)
                    self._add(path, [Finding("text", problem) for problem in text_problems(registry)])
                elif content != schema_text().encode():
                    command = f"python -m kd_bench.submission.schema {LEADERBOARDS}/{SCHEMA}"
                    message = f"is not the schema of this version; write it anew: {command}"
                    self.problems.append(Problem(str(path), "schema", message))
            except RefusedError as refusal:
                self.problems.append(refusal.at(path))


def _protocols() -> dict[str, Protocol]:
    return {protocol.id: protocol for protocol in list_protocols()}


def _around(targets: Targets, leaderboards: Path | None) -> Path | None:
    if leaderboards is not None:
        return _folder(leaderboards)
    for path in (*targets.entries, *targets.corrections, *targets.files):
        if (found := leaderboards_of(path)) is not None and (found / REGISTRY).exists():
            return found
    here = Path(LEADERBOARDS)
    return here if here.is_dir() else None


def _folder(path: Path | str | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path)
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give leaderboards, with their {RESULTS} and {REGISTRY}.")
    return folder


def _changes(around: Path, base: Path, maintainer: bool) -> list[Problem]:
    from kd_bench.submission.changes import compare_with_base

    try:
        return compare_with_base(around, base, maintainer=maintainer)
    except UserError as error:
        return [Problem(str(around), "base", f"cannot be compared with the leaderboards before: {error}")]
