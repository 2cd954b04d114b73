"""A git repository with leaderboards in it, as a stranger's clone would be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from synthetic_results import write_results

MAIN = "main"


class Repository:
    """A repository in a folder, apart from the user's configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.leaderboards = folder / "leaderboards"
        folder.mkdir()
        self.git("init", "--quiet", f"--initial-branch={MAIN}")

    def git(self, *arguments: str, **environment: str) -> str:
        """Run git; returns what it printed."""
        names = {
            f"GIT_{role}_{what}": "someone@example.org"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            env=os.environ | names | nothing | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def write(self, path: str, content: str | bytes = "content\n") -> Path:
        """Write a file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def commit(self, message: str = "change") -> str:
        """Commit everything there is; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()


def published_repository(folder: Path) -> Repository:
    """A repository whose main branch has leaderboards, on a branch of one's own."""
    repository = Repository(folder)
    write_results(repository.leaderboards / "results", seeds=(0, 1, 2))
    repository.write("README.md", "the project\n")
    repository.write("leaderboards/README.md", "the leaderboards\n")
    repository.commit("published")
    repository.git("switch", "--quiet", "--create", "submission")
    return repository
