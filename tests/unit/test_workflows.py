"""The workflows of GitHub Actions: valid, pinned, with few permissions, and what they call exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from datacheck._version import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VENDORED = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"


def read(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


WORKFLOWS = {path.stem: read(path) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                yield name, step


def commands() -> list[str]:
    return [line for _, step in steps() for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize(
    ("pattern", "schema"),
    [
        (".github/workflows/*.yml", "github-workflows.json"),
        (".github/dependabot.yml", "dependabot.json"),
        (".github/ISSUE_TEMPLATE/[!c]*.yml", "github-issue-forms.json"),
        (".github/ISSUE_TEMPLATE/config.yml", "github-issue-config.json"),
        ("CITATION.cff", "citation-file-format.json"),
    ],
)
def test_every_file_follows_its_published_schema(pattern: str, schema: str) -> None:
    paths = sorted(ROOT.glob(pattern))
    assert paths
    for path in paths:
        # YAML 1.1 reads "on" as a boolean.
        document = {"on" if key is True else key: value for key, value in read(path).items()}
        jsonschema.validate(document, json.loads((VENDORED / schema).read_text(encoding="utf-8")))


def test_every_version_and_system_that_is_promised_is_tested() -> None:
    matrix = WORKFLOWS["tests"]["jobs"]["platforms"]["strategy"]["matrix"]
    promised = [
        entry.rpartition(" :: ")[2] for entry in PROJECT["project"]["classifiers"] if ":: Python :: 3." in entry
    ]
    assert matrix["python"] == promised == ["3.11", "3.12", "3.13", "3.14"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_every_path_that_is_named_exists() -> None:
    words = [word for line in commands() for word in shlex.split(line, comments=True)]
    paths = [word for word in words if re.fullmatch(r"(tests|\.ci|docs)/[\w./-]+|constraints\.txt", word)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("target", sorted({line.split()[1] for line in commands() if line.startswith("make ")}))
def test_every_target_of_make_exists(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_group_and_extra_exists() -> None:
    text = "\n".join(commands())
    assert set(re.findall(r"--group (\S+)", text)) <= set(PROJECT["dependency-groups"])
    for extras in re.findall(r"\.\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_every_action_has_a_version() -> None:
    actions = [step["uses"] for _, step in steps() if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", action)] == []


def test_nothing_may_write_that_need_not() -> None:
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {"contents": "read"}, name
    writing = {
        (name, job, permission)
        for name, workflow in WORKFLOWS.items()
        for job, entry in workflow["jobs"].items()
        for permission, access in entry.get("permissions", {}).items()
        if access == "write"
    }
    assert writing == {
        ("docs", "publish", "pages"),
        ("docs", "publish", "id-token"),
        ("release", "build", "id-token"),
        ("release", "build", "attestations"),
        ("release", "publish", "id-token"),
    }


def test_no_script_contains_what_a_stranger_can_write() -> None:
    assert [line for line in commands() if "${{" in line] == []


def test_what_is_published_is_attested_and_needs_no_secret() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    assert "actions/attest-build-provenance@" in text
    assert "secrets." not in text
    assert WORKFLOWS["release"]["jobs"]["publish"]["needs"] == "build"
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}


def test_the_citation_names_this_version_and_license() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_lowest_versions_are_those_of_the_project() -> None:
    done = subprocess.run(["python3", str(ROOT / ".ci" / "oldest.py")], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(PROJECT["project"]["dependencies"])
    assert "numpy==2.0" in lines
