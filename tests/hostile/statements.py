"""Entries that state what cannot be: protocol, pair, seeds, teacher, names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from committed_entries import copy_entry

from hostile.edits import edit, put_arrays, rename
from hostile.table import case, edited
from hostile.valid import (
    COMMITTED,
    own_entry,
)

edited("unknown protocol", "protocol", "no protocol", lambda r: r["protocol"].update(id="digits-v9"))
edited("other recipe", "protocol-hash", "recipe", lambda r: r["protocol"].update(hash="0" * 64))
edited("quick variant", "protocol", "no protocol", lambda r: r["protocol"].update(id="digits-v1-quick"))
edited("student of another pair", "pair", "no student", lambda r: r["student"].update(name="mini_cnn8"))
edited("model from the network", "pair", "hf-hub", lambda r: r["student"].update(name="timm:hf-hub:evil/model"))
edited("teacher from the network", "pair", "hf-hub", lambda r: r["teacher"].update(name="timm:hf-hub:evil/model"))
edited("teacher as a student", "pair", "no student", lambda r: r["student"].update(name="mini_resnet14"))
edited("larger student", "student", "parameters", lambda r: r["student"].update(parameters=6275))
edited("smaller student", "student", "parameters", lambda r: r["student"].update(parameters=10))
edited(
    "other teacher", "teacher", "not registered", lambda r: r["teacher"].update(weights_sha256="0" * 64, accuracy=0.5)
)
edited("other score of the teacher", "teacher", "registered", lambda r: r["teacher"].update(accuracy=0.5))
edited("larger teacher", "teacher", "registered", lambda r: r["teacher"].update(parameters=1))
edited("detector's teacher", "schema", "one task", lambda r: r.update(teacher=_as_detector(r["teacher"])))
edited("foreign seed", "seeds", "too", lambda r: r["runs"][4].update(seed=5))
edited("predictions of another name", "seeds", "seed-0.npz", lambda r: r["runs"][0].update(predictions_file="x.npz"))
edited("predictions outside", "schema", "predictions_file", lambda r: r["runs"][0].update(predictions_file="../x.npz"))
edited("changed lightning_kd", "git-dirty", "unchanged", lambda r: r["method"].update(git_dirty=True))
edited("class that is not there", "class-path", "no method", lambda r: r["method"].update(_no_class()))
edited("forged hash of a source", "source-hash", "neither", lambda r: r["method"].update(source_sha256="0" * 64))
edited("fusion of one's own", "class-path", "fusion", lambda r: r["method"].update(fusion=_fusion()))
edited("parameter that the class lacks", "hyper-parameters", "x", lambda r: r["method"]["parameters"].update(x=1))


def _as_detector(teacher: dict[str, Any]) -> dict[str, Any]:
    return {"name": teacher["name"], "weights_sha256": teacher["weights_sha256"], "ap": 0.9, "parameters": 174970}


def _no_class() -> dict[str, Any]:
    return {"class_path": "lightning_kd.methods.logits.kd.Secret"}


def _fusion() -> dict[str, Any]:
    return {"class_path": "os.system", "parameters": {}, "hold_out": 0.0, "source_sha256": "0" * 64}


@case("source of an unstated revision", "source-hash", "no revision")
def _(entry: Path) -> None:
    edit(entry, lambda r: r["method"].update(source_sha256="0" * 64, git_revision=None, git_dirty=None))


@case("folder of another method", "path", "belongs into")
def _(entry: Path) -> None:
    entry.parent.rename(entry.parents[1] / "DKD")


@case("another method's results renamed", "copied", "renamed", own_entry)
def _(entry: Path) -> None:
    copy_entry(COMMITTED / "results" / "digits-v1" / "DKD", entry.parents[1] / "DKD")


@case("another method's results renamed and perturbed", "copied", "renamed", own_entry)
def _(entry: Path) -> None:
    copy_entry(COMMITTED / "results" / "digits-v1" / "DKD", entry.parents[1] / "DKD")
    noise = np.random.default_rng(0)

    def change(arrays: dict[str, Any]) -> None:
        factor = 1 + 1e-5 * noise.standard_normal(539)
        arrays["label_log_probability"] = np.minimum(arrays["label_log_probability"] * factor, 0).astype(np.float32)

    put_arrays(entry, change, seed=2)


@case("one seed's results as another's", "repeated-seed", "0 and 1")
def _(entry: Path) -> None:
    def change(run_set: dict[str, Any]) -> None:
        run_set["runs"][1] = {**run_set["runs"][0], "seed": 1, "predictions_file": "seed-1.npz"}

    shutil.copy(entry / "seed-0.npz", entry / "seed-1.npz")
    edit(entry, change)


@case("name of a known method for another class", "method-name", "stands for", own_entry)
def _(entry: Path) -> None:
    rename(entry, "VID")


@case("name that differs by case only", "method-name", "can be taken for", own_entry)
def _(entry: Path) -> None:
    rename(entry, "vid")


@case("name that looks like another's", "method-name", "can be taken for", own_entry)
def _(entry: Path) -> None:
    rename(entry, "V1D")


@case("folders that differ by case only", "files", "upper and lower case")
def _(entry: Path) -> None:
    shutil.copytree(entry.parent, entry.parents[1] / "kd")


@case("plain student with a class", "method-name", "plain", own_entry)
def _(entry: Path) -> None:
    shutil.rmtree(entry.parents[1] / "plain")
    rename(entry, "plain")


@case("a class without a name", "method-name", "plain", own_entry)
def _(entry: Path) -> None:
    edit(entry, lambda run_set: run_set["method"].update(class_path=None))


@case("Cyrillic letter in a name", "schema", "name", own_entry)
def _(entry: Path) -> None:
    rename(entry, "\u041aD", "KD-2")


@case("zero-width character in a name", "schema", "name", own_entry)
def _(entry: Path) -> None:
    rename(entry, "KD\u200b", "KD-2")


for reserved in ("CON", "nul", "com1.x", "LPT9"):

    @case(f"reserved name {reserved}", "files", "Windows", own_entry)
    def _(entry: Path, reserved: str = reserved) -> None:
        rename(entry, reserved)


@case("name with a slash", "method-name", "letters", own_entry)
def _(entry: Path) -> None:
    rename(entry, "my/method", "my-method")


@case("name that ends with a dot", "files", "a dot", own_entry)
def _(entry: Path) -> None:
    rename(entry, "MyMethod.")
