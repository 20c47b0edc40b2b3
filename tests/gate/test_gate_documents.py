"""``datacheck schema check`` recognizes schemas, pipelines and configurations by their content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], Path]
Run = Callable[..., Any]

SCHEMA = "fields: {x: {ge: 1}}\n"
PIPELINE = "inputs: data\noutput: {path: out}\nclean: [{action: clip, fields: x, ge: 0}]\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", SCHEMA, "1 field, 0 checks"),
        ("a.yml", PIPELINE, "pipeline with 1 split, 1 rule"),
        ("datacheck.yaml", "ignore: [DC1]\nworkers: 2\n", "configuration with 2 settings"),
        ("pyproject.toml", "[tool.datacheck]\nignore = ['DC1']\n", "configuration with 1 setting"),
        ("pyproject.toml", "[project]\nname = 'x'\n", "no [tool.datacheck] table"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--skip-others"]])
def test_a_valid_file_is_described(
    write: Write, run: Run, name: str, text: str, words: str, options: list[str]
) -> None:
    write(name, text)
    assert run("schema", "check", name, *options) == (0, f"{name}: {words}\n", "")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "fields: {x: {gee: 1}}\n", "fields.x.gee: unknown key 'gee'; did you mean 'ge'?"),
        ("a.yaml", "columns: {x: {}}\n", "columns: unknown key 'columns'; write 'fields'"),
        ("a.yaml", "inputs: d\noutput: {path: o}\nclean: [{action: clap}]\n", "clean[0].action"),
        ("a.yaml", "inputs: d\nouptut: {path: o}\nclean: []\n", "output: is required"),
        ("a.yaml", f"{PIPELINE}schema: nowhere.yaml\n", "nowhere.yaml: no such file"),
        ("a.yaml", "fields: {x\n", "is not valid YAML"),
        ("datacheck.yaml", "slect: [DC1]\n", "slect: unknown key 'slect'; did you mean 'select'?"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--skip-others"]])
def test_an_invalid_file_is_an_error_that_names_the_key(
    write: Write, run: Run, name: str, text: str, message: str, options: list[str]
) -> None:
    write(name, text)
    done = run("schema", "check", name, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "text",
    ["apiVersion: v1\nkind: Job\n", "a: 1\n---\nb: 2\n", "{{ helm }}\n", "- 1\n- 2\n", "", "on: push\njobs: {}\n"],
)
def test_other_files_are_skipped_only_with_skip_others(write: Write, run: Run, text: str) -> None:
    write("other.yaml", text)
    assert run("schema", "check", "other.yaml").code == 2
    done = run("schema", "check", "other.yaml", "--skip-others")
    assert done.code == 0
    assert done.out.endswith("skipped\n")


def test_a_missing_file_is_always_an_error(run: Run) -> None:
    for options in ([], ["--skip-others"]):
        assert run("schema", "check", "nowhere.yaml", *options).code == 2


def test_all_files_are_checked(write: Write, run: Run) -> None:
    write("a.yaml", "fields: {x: {gee: 1}}\n")
    write("b.yaml", SCHEMA)
    write("c.yaml", "fields: 3\n")
    done = run("schema", "check", "a.yaml", "b.yaml", "c.yaml")
    assert (done.code, done.out) == (2, "b.yaml: 1 field, 0 checks\n")
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["a.yaml", "c.yaml"]
