"""The workflows for submissions: unprivileged, and made of commands that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_kd.cli.dispatch import find_command
from lightning_kd.cli.main import main

FOLDER = Path(__file__).parents[3] / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.y*ml"))
PINNED = re.compile(r"[\w-]+/[\w-]+@(v[0-9]+|[0-9a-f]{40})")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


def workflow(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    loaded["on"] = loaded.pop(True)  # what YAML 1.1 makes of the key "on"
    return loaded


def jobs(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = workflow(name)["jobs"]
    assert found
    return found


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def commands(name: str) -> list[list[str]]:
    """Calls of lightning-kd, as lists of words."""
    scripts = [step["run"].replace("\\\n", " ") for step in steps(name) if "run" in step]
    lines = [line for script in scripts for line in script.splitlines() if line.strip().startswith("lightning-kd ")]
    return [shlex.split(line)[1:] for line in lines]


def test_the_workflows_are_there() -> None:
    assert NAMES == ["ci.yml", "page.yml", "retrain.yml", "submission-comment.yml", "submission.yml"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_with_privileges_on_a_pull_request(name: str) -> None:
    assert "pull_request_target" not in (FOLDER / name).read_text(encoding="utf-8")
    assert set(workflow(name)["on"]) <= {"push", "pull_request", "workflow_run", "workflow_dispatch"}


@pytest.mark.parametrize("name", NAMES)
def test_no_expression_reaches_a_shell(name: str) -> None:
    for step in steps(name):
        assert not EXPRESSION.search(step.get("run", "")), step
        assert "github-script" not in step.get("uses", "")


@pytest.mark.parametrize("name", NAMES)
def test_permissions_are_stated_and_minimal(name: str) -> None:
    granted = workflow(name)["permissions"]
    assert granted in ({}, {"contents": "read"})
    more = {job: set(described.get("permissions", {}).items()) for job, described in jobs(name).items()}
    writing = {job: {key for key, right in rights if right == "write"} for job, rights in more.items()}
    assert {job: rights for job, rights in writing.items() if rights} == {
        "submission-comment.yml": {"comment": {"pull-requests"}},
        "page.yml": {"publish": {"pages", "id-token"}},
    }.get(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_there_are_no_secrets_but_the_token_of_the_comment(name: str) -> None:
    everything = "\n".join(texts(workflow(name)))
    assert "secrets" not in everything
    assert ("github.token" in everything) == (name == "submission-comment.yml")


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned_and_come_from_github(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    for action in used:
        assert PINNED.fullmatch(action), action
        assert action.startswith("actions/"), action


@pytest.mark.parametrize("name", NAMES)
def test_checkouts_leave_no_token_behind(name: str) -> None:
    checkouts = [step for step in steps(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert checkouts or name not in ("ci.yml", "submission.yml", "retrain.yml", "page.yml", "submission-comment.yml")


@pytest.mark.parametrize("name", NAMES)
def test_every_job_ends(name: str) -> None:
    assert all(1 <= job["timeout-minutes"] <= 350 for job in jobs(name).values())


def test_the_check_runs_the_code_of_the_base() -> None:
    by_path = {
        step["with"]["path"]: step["with"] for step in steps("submission.yml") if "checkout" in step.get("uses", "")
    }
    assert by_path["base"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert "ref" not in by_path["submission"]
    assert by_path["submission"]["fetch-depth"] == 0, "the merge base is not in a shallow clone"
    for step in steps("submission.yml"):
        script = step.get("run", "")
        assert "pip install" not in script or re.search(r'install -qq "\./base\[\w+\]"', script)
        # neither a program nor a module of the pull request is found by its name
        assert "lightning-kd" not in script or step["working-directory"] == "${{ runner.temp }}"
        assert not re.search(r"(python|bash|sh|make|source|\.)\s+\S*submission", script)


def test_the_check_is_complete() -> None:
    (words,) = commands("submission.yml")
    assert words[:2] == ["leaderboard", "check"]
    assert {"--base-ref", "--json", "--comment"} <= set(words)
    assert workflow("submission.yml")["on"] == {"pull_request": {"paths": ["leaderboards/**"]}}
    (upload,) = [step for step in steps("submission.yml") if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()", "a refused submission gets a comment, too"


def test_the_comment_is_posted_by_the_code_of_the_default_branch() -> None:
    (checkout,) = [step for step in steps("submission-comment.yml") if "checkout" in step.get("uses", "")]
    assert not {"ref", "repository"} & set(checkout["with"])
    (download,) = [step for step in steps("submission-comment.yml") if "download-artifact" in step.get("uses", "")]
    assert download["with"]["path"] == "report", "never over the code that reads it"
    assert download["with"]["name"] == "submission-report"
    (script,) = [step["run"] for step in steps("submission-comment.yml") if "run" in step]
    program = script.split()[1]
    assert (FOLDER.parents[1] / program).is_file()
    assert workflow("submission-comment.yml")["on"]["workflow_run"]["workflows"] == [workflow("submission.yml")["name"]]


def test_submitted_code_runs_only_where_a_maintainer_starts_it() -> None:
    running = [name for name in NAMES if "--run-submitted-code" in (FOLDER / name).read_text(encoding="utf-8")]
    assert running == ["retrain.yml"]
    assert set(workflow("retrain.yml")["on"]) == {"workflow_dispatch"}
    assert [words[1] for words in commands("retrain.yml")] == ["check", "verify"]


@pytest.mark.parametrize("name", ["page.yml", "retrain.yml", "submission.yml"])
def test_the_commands_exist_with_their_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    called = commands(name)
    assert called
    for words in called:
        _, rest = find_command(words)
        assert len(rest) < len(words) - 1
        options = [word for word in rest if word.startswith("--")]
        assert main([*words[: len(words) - len(rest)], "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(option in shown for option in options), words
