"""The repository around the code: what is promised in one file holds in the others."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import datacheck
from datacheck.cleaning.plan import parse_plan
from datacheck.cleaning.rules import DropField
from datacheck.codes import CODES, OWN_CODE, Code
from datacheck.jobs.pipeline import load_pipeline
from datacheck.schema.model import Schema
from datacheck.storage.documents import load_schema, load_yaml

ROOT = Path(__file__).resolve().parent.parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS: dict[str, str] = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
}
SCHEMAS = sorted((ROOT / "schemas").glob("*.yaml"))
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))

FAMILIES = {
    "core": PYPROJECT["project"]["dependencies"],
    **PYPROJECT["project"]["optional-dependencies"],
    **PYPROJECT["dependency-groups"],
}
REQUIREMENTS = {
    (family, line): Requirement(line)
    for family, lines in FAMILIES.items()
    for line in lines
    if isinstance(line, str) and not line.startswith("datacheck-ml")
}


@pytest.mark.parametrize("requirement", REQUIREMENTS.values(), ids=lambda requirement: requirement.name)
def test_what_ci_installs_is_within_what_users_may_install(requirement: Requirement) -> None:
    pinned = CONSTRAINTS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{requirement} does not admit {pinned}"


@pytest.mark.parametrize("requirement", REQUIREMENTS.values(), ids=lambda requirement: requirement.name)
def test_dependencies_are_ranges_with_a_lower_bound(requirement: Requirement) -> None:
    assert {specifier.operator for specifier in requirement.specifier} <= {">=", "<"}
    assert ">=" in {specifier.operator for specifier in requirement.specifier}


def test_torch_comes_only_with_its_extra() -> None:
    assert {family for (family, _), requirement in REQUIREMENTS.items() if requirement.name == "torch"} == {"torch"}
    assert CONSTRAINTS["torch"] == "2.13.0"


def test_the_extra_all_holds_every_other_extra() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    heavy = {"lance", "medical", "ray", "sklearn", "zarr"}
    assert Requirement(everything).extras == set(extras) - heavy - {"all"}


def test_every_constraint_is_an_exact_version() -> None:
    assert [
        name for name, version in CONSTRAINTS.items() if not re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", version)
    ] == []


def test_the_version_has_a_place_in_the_changelog() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"Unreleased", datacheck.__version__} & set(headings)


# Codes


def printed_lines(text: str) -> list[str]:
    """The indented lines of an explanation: what is printed, or YAML to copy."""
    return [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))
def test_every_code_explains_itself(code: Code) -> None:
    texts = (code.finds, code.why, code.example, code.remedy)
    assert [text for text in texts if not re.match("[A-Z`]", text)] == []
    assert [text for text in texts[:2] if not text.endswith(".")] == []


@pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))
def test_the_example_of_a_code_shows_the_line_that_it_prints(code: Code) -> None:
    # A diagnosis (DC40x to DC44x) has a form of its own, which begins with the number of its code.
    message = "" if re.match("DC4[0-4]", code.code) else code.message
    mark = "" if code.severity == "error" else f"{code.severity}: "
    pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(f"{code.code} {mark}{message}"))
    assert [line for line in printed_lines(code.example) if re.match(pattern, line)]


@pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))
def test_the_remedy_of_a_code_can_be_copied(code: Code, tmp_path: Path) -> None:
    (tmp_path / "remedy.yaml").write_text("\n".join(printed_lines(code.remedy)))
    entries = yaml.safe_load((tmp_path / "remedy.yaml").read_text()) or []
    if isinstance(entries, dict):
        entries = load_yaml(tmp_path / "remedy.yaml")  # where `on` is a word
        of_schema = entries.keys() & set(Schema.model_fields) - {"fields"}
        shapes = {name: {"shape": [name]} for name in entries.get("dimensions", {})}
        assert load_schema({"fields": shapes, **entries} if of_schema else {"fields": entries})
        return
    rules = parse_plan(entries).rules
    speaking = [code.code in rule.covered or isinstance(rule, DropField) for rule in rules]
    assert all(speaking), "a remedy that says nothing about its code"


def test_codes_are_in_order_and_their_names_differ() -> None:
    # Other tests in this process may have loaded schemas with checks of their own.
    built_in = {number: code for number, code in CODES.items() if not OWN_CODE.fullmatch(number)}
    assert list(built_in) == sorted(built_in)
    assert len({code.name for code in built_in.values()}) == len(built_in)
    assert all(re.fullmatch(r"DC[0-69]\d\d", number) for number in built_in)


# Schemas and pipelines


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_schema_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load_schema(path).name == path.stem


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_every_pipeline_loads_and_its_rules_speak_of_fields_of_its_schema(path: Path) -> None:
    pipeline = load_pipeline(path)
    assert {name for rule in pipeline.plan.rules for name in rule.fields or ()} <= set(pipeline.schema.fields)


# Commands and the image


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("run", "datacheck run pipelines/flights.yaml"),
        ("test", 'python -m pytest -m "not slow"'),
        ("test-slow", "python -m pytest -m slow"),
        ("test-core", 'python -m pytest -m "not torch and not slow"'),
        ("check", "mypy"),
        ("check", "ruff format --check ."),
        ("check", "tests/unit/test_layers.py"),
        ("check", "hadolint Dockerfile"),
        ("test-oldest", "python .ci/oldest.py"),
        ("dist", "python -m build"),
        ("docs", "python -m mkdocs build --strict"),
    ],
)
def test_make_does_what_it_says(target: str, command: str) -> None:
    plan = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert command in plan


@pytest.mark.parametrize("target", ["run", "test", "test-core", "check", "docs", "bench"])
def test_every_installation_is_held_to_the_constraints(target: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installations = [line for line in plan.splitlines() if "pip install" in line]
    assert installations
    assert all("--constraint constraints.txt" in line for line in installations)


def test_ci_runs_every_target_that_it_should() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^step(?:_of_tests)? (\S+)$", script, re.MULTILINE) == [
        "test",
        "check",
        "run",
        "docs",
        "test-slow",
        "test-core",
        "test-integrations",
    ]


def instructions() -> Iterator[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


def test_the_image_runs_the_command_as_an_unprivileged_user() -> None:
    steps = list(instructions())
    last_stage = steps[max(index for index, (word, _) in enumerate(steps) if word == "FROM") :]
    assert ("ENTRYPOINT", '["datacheck"]') in last_stage
    (user,) = [rest for word, rest in last_stage if word == "USER"]
    assert user.partition(":")[0] not in ("root", "0")


def test_the_image_installs_its_dependencies_before_it_sees_the_source() -> None:
    steps = list(instructions())
    first_install = min(index for index, (word, rest) in enumerate(steps) if word == "RUN" and "pip install" in rest)
    source = next(index for index, (word, rest) in enumerate(steps) if word == "COPY" and rest.startswith("datacheck "))
    assert first_install < source


def test_the_image_opens_object_stores_and_has_no_other_extra_unless_asked() -> None:
    assert ("ARG", 'EXTRAS="cloud"') in list(instructions())


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda path: path.name
)
def test_no_page_has_the_marks_of_a_merge(path: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", path.read_text(encoding="utf-8"), re.MULTILINE)
