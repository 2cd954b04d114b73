"""Sources of methods: read as text, never run."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import warnings
from pathlib import Path

import pytest
from hostile.valid import METHOD
from kd_bench.submission.problem import RefusedError
from kd_bench.submission.sources import check_method_file, installed_sha256, library_methods, revision_sha256

import lightning_kd

KD = "lightning_kd.methods.logits.kd.KD"


def test_a_method_of_one_file_passes() -> None:
    check_method_file(METHOD.encode(), "MyMethod")
    check_method_file(METHOD.replace("\n", "\r\n").encode(), "MyMethod")
    check_method_file(f"# -*- coding: utf-8 -*-\n# Müller, 蒸馏\n{METHOD}".encode(), "MyMethod")


def test_the_methods_of_the_library_would_pass() -> None:
    for cls in library_methods().values():
        check_method_file(Path(inspect.getfile(cls)).read_bytes(), cls.__name__)


def test_nothing_is_run(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'executed')!r}, 'w')\n{METHOD}"
    check_method_file(code.encode(), "MyMethod")
    assert not list(tmp_path.iterdir())


def test_remarks_of_the_parser_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_method_file(f"x = '\\d'\ny = 1 is 1\n{METHOD}".encode(), "MyMethod")
    assert capsys.readouterr() == ("", "")


def test_the_line_of_a_hidden_character_is_told() -> None:
    with pytest.raises(RefusedError, match=r"line 2 holds .* U\+202E"):
        check_method_file("x = 1\ny = '\u202e'\n".encode(), "MyMethod")


def test_hashes_of_installed_methods() -> None:
    file = Path(inspect.getfile(library_methods()[KD]))
    assert installed_sha256(KD) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert installed_sha256("lightning_kd.methods.logits.kd.Other") is None


def test_hashes_of_revisions() -> None:
    top = Path(lightning_kd.__file__).parent
    done = subprocess.run(["git", "-C", str(top), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not in a checkout")
    file = Path(inspect.getfile(library_methods()[KD])).relative_to(top.parent)
    command = ["git", "-C", str(top.parent), "show", f"HEAD:./{file.as_posix()}"]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    assert revision_sha256(KD, done.stdout.strip()) == hashlib.sha256(content).hexdigest()


def test_an_unknown_revision_has_no_hash() -> None:
    assert revision_sha256(KD, "0" * 40) is None


def test_a_commit_beside_the_history_has_no_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "lightning_kd"
    file = package / Path(inspect.getfile(library_methods()[KD])).relative_to(Path(lightning_kd.__file__).parent)
    file.parent.mkdir(parents=True)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit(content: str) -> str:
        file.write_text(content)
        git("add", "-A")
        git("commit", "-m", content)
        return git("rev-parse", "HEAD")

    git("init", "-b", "main")
    first, second = commit("first"), commit("second")
    git("checkout", "-q", "-b", "pull-request", first)
    forged = commit("forged")
    git("checkout", "-q", "main")
    cls = type("KD", (), {})
    monkeypatch.setattr("kd_bench.submission.sources.library_methods", lambda: {KD: cls})
    monkeypatch.setattr("kd_bench.submission.sources.lightning_kd.__file__", str(package / "__init__.py"))
    monkeypatch.setattr("kd_bench.submission.sources.inspect.getfile", lambda _: str(file))
    assert revision_sha256(KD, first) == hashlib.sha256(b"first").hexdigest()
    assert revision_sha256(KD, second) == hashlib.sha256(b"second").hexdigest()
    assert revision_sha256(KD, forged) is None
    revision_sha256.cache_clear()
