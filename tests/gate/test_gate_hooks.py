"""The pre-commit hooks of this repository, run by pre-commit on real commits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datacheck.formats import BUILT_IN, hook_pattern, known_suffixes

Save = Callable[..., Path]
Write = Callable[[str, str], Path]
Commit = Callable[..., subprocess.CompletedProcess[str]]

NAN = float("nan")


def call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of pre-commit, shared by all tests."""
    return tmp_path_factory.mktemp("pre-commit")


@pytest.fixture
def commit(folder: Path, repository: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Commit:
    """Stages and commits everything, in a repository that uses the hooks of this one.

    The hooks come from a separate repository, as for any user, but run the installed datacheck, because installing another
    copy needs a package index.
    """
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PRE_COMMIT_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }.items():
        monkeypatch.setenv(name, value)
    for variable in [name for name in os.environ if name.startswith(("GIT_DIR", "GIT_INDEX", "GIT_WORK"))]:
        monkeypatch.delenv(variable)
    offered = tmp_path / "offered"
    offered.mkdir()
    shutil.copy(repository / ".pre-commit-hooks.yaml", offered)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "hooks"]):
        assert call("git", "-C", str(offered), *arguments).returncode == 0
    revision = call("git", "-C", str(offered), "rev-parse", "HEAD").stdout.strip()
    hooks = [{"id": name, "language": "system"} for name in ("datacheck", "datacheck-schema")]
    config = {"repos": [{"repo": str(offered), "rev": revision, "hooks": hooks}]}
    (folder / ".git").rmdir()
    assert call("git", "init", "-q").returncode == 0
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    installed = call(sys.executable, "-m", "pre_commit", "install")
    assert installed.returncode == 0, installed.stderr

    def add_and_commit(message: str = "data") -> subprocess.CompletedProcess[str]:
        call("git", "add", "-A")
        return call("git", "commit", "-m", message)

    return add_and_commit


@pytest.mark.slow
def test_a_commit_with_a_nan_is_rejected_and_one_without_passes(save: Save, commit: Commit) -> None:
    save("data/train.npy", [[1, 2], [3, NAN]])
    refused = commit()
    assert refused.returncode == 1
    assert "DC101 1 of 4 values are NaN in the array (data/train.npy, row 1, index [1])" in refused.stderr
    assert call("git", "log").returncode != 0
    save("data/train.npy", [[1, 2], [3, 4]])
    passed = commit()
    assert passed.returncode == 0, passed.stderr
    assert re.search(r"^datacheck\.+Passed$", passed.stderr, re.MULTILINE)
    assert call("git", "log", "--format=%s").stdout == "data\n"


def test_no_file_name_is_parsed_as_an_option(save: Save, commit: Commit) -> None:
    for name in (
        "-x.npy",
        "--help.npy",
        "-o.npy",
        "--schema=s.npy",
        "a b.npy",
        "new\nline.npy",
        "*.npy",
        "%0A::error.npy",
    ):
        save(name, [NAN])
    refused = commit()
    assert refused.returncode == 1
    assert refused.stderr.count("DC101") == 8
    assert "8 errors in 8 files" in refused.stderr


@pytest.mark.slow
def test_only_staged_content_is_checked(save: Save, commit: Commit) -> None:
    path = save("a.npy", [1])
    assert commit().returncode == 0
    save("b.npy", [2])
    call("git", "add", "b.npy")
    # Not staged: pre-commit stashes it while hooks run.
    save("a.npy", [NAN])
    done = call("git", "commit", "-m", "b")
    assert done.returncode == 0, done.stderr
    assert np.isnan(np.load(path)).all()


@pytest.mark.slow
def test_the_configuration_of_the_repository_is_used(save: Save, write: Write, commit: Commit) -> None:
    write("schemas/low.yaml", "fields: {x: {le: 1}}\n")
    write("datacheck.yaml", "schemas: {data/: schemas/low.yaml}\nexclude: [raw/]\n")
    save("data/a.npy", [5])
    save("raw/a.npy", [NAN])
    refused = commit()
    assert refused.returncode == 1
    assert "DC202" in refused.stderr
    assert "raw/a.npy" not in refused.stderr


@pytest.mark.slow
def test_git_lfs_and_dvc_pointers_are_reported(write: Write, commit: Commit) -> None:
    write("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234\n")
    write("b.npy.dvc", "outs:\n- md5: a304afb96060aad90176268345e10355\n  path: b.npy\n")
    refused = commit()
    assert refused.returncode == 1
    assert "it is a Git LFS pointer; fetch the data with `git lfs pull" in refused.stderr
    assert "only its DVC pointer is here; fetch the data with `dvc pull b.npy.dvc`" in refused.stderr
    write("datacheck.yaml", "severity: {DC906: warning}\n")
    assert commit().returncode == 0


@pytest.mark.slow
def test_an_invalid_schema_pipeline_or_configuration_is_rejected(write: Write, commit: Commit) -> None:
    write("schemas/s.yaml", "fields: {x: {gee: 1}}\n")
    write("pipelines/p.yaml", "inputs: data\noutput: {path: out}\nclaen: []\n")
    write("pipelines/ci.yml", "jobs: {build: {steps: []}}\n")
    write("other/s.yaml", "fields: {x: {gee: 1}}\n")
    refused = commit()
    assert refused.returncode == 1
    assert "schemas/s.yaml: fields.x.gee: unknown key 'gee'; did you mean 'ge'?" in refused.stderr
    assert "pipelines/p.yaml: claen: unknown key 'claen'; did you mean 'clean'?" in refused.stderr
    assert "pipelines/ci.yml: neither a schema nor a pipeline, skipped" in refused.stderr
    assert "other/s.yaml" not in refused.stderr
    write("schemas/s.yaml", "fields: {x: {ge: 1}}\n")
    write("pipelines/p.yaml", "inputs: data\noutput: {path: out}\nclean: []\n")
    assert commit().returncode == 0
    write("datacheck.yaml", "slect: [DC1]\n")
    assert "datacheck.yaml: slect: unknown key" in commit().stderr


@pytest.mark.slow
def test_unchanged_files_are_not_read_again(save: Save, commit: Commit) -> None:
    for number in range(40):
        save(f"data/{number}.npy", [number])
    assert commit().returncode == 0
    again = call(sys.executable, "-m", "pre_commit", "run", "datacheck", "--all-files", "--verbose")
    assert again.returncode == 0, again.stderr
    assert "no findings in 40 files, 40 rows" in again.stdout
    assert "40 files unchanged since the last check" in again.stdout


# The hook manifest


def offered_hooks(repository: Path) -> dict[str, dict[str, Any]]:
    return {hook["id"]: hook for hook in yaml.safe_load((repository / ".pre-commit-hooks.yaml").read_text())}


def test_the_manifest_is_valid(repository: Path) -> None:
    done = call(sys.executable, "-m", "pre_commit", "validate-manifest", str(repository / ".pre-commit-hooks.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hook_matches_exactly_the_files_that_datacheck_reads(repository: Path) -> None:
    hook = offered_hooks(repository)["datacheck"]
    assert hook["files"] == hook_pattern(), f"set 'files' in .pre-commit-hooks.yaml to: {hook_pattern()}"
    pattern = re.compile(hook["files"])
    others = {suffix for record in BUILT_IN.values() if record.needs_recognition for suffix in record.suffixes}
    folders = {suffix for record in BUILT_IN.values() if record.folder for suffix in record.suffixes}
    for suffix in folders - others:
        assert pattern.search(f"data/x{suffix}.dvc")
        assert not pattern.search(f"data/x{suffix}/data/0101{suffix}")
    for suffix in set(known_suffixes()) - others - folders:
        assert pattern.search(f"data/x{suffix}")
        assert pattern.search(f"data/X{suffix.upper()}")
        assert pattern.search(f"data/x{suffix}.dvc")
        assert pattern.search(f"data/x{suffix}-00003-of-00010")
        assert not pattern.search(f"data/x{suffix}.txt")
    assert hook["require_serial"] is True


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("schemas/a.yaml", True),
        ("x/schemas/deep/a.yml", True),
        ("pipelines/a.yaml", True),
        ("datacheck.yaml", True),
        ("sub/datacheck.yaml", True),
        ("a.yaml", False),
        ("myschemas/a.yaml", False),
        ("schemas/a.json", False),
    ],
)
def test_the_schema_hook_matches_schemas_pipelines_and_configurations(repository: Path, path: str, taken: bool) -> None:
    assert bool(re.search(offered_hooks(repository)["datacheck-schema"]["files"], path)) is taken
