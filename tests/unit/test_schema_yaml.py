"""Reading YAML without its traps, with errors that give the file and the line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from datacheck.errors import PipelineError, SchemaError
from datacheck.schema.validation import validate
from datacheck.schema.yaml_file import MAX_FILE_BYTES, dump_yaml, parse_yaml
from datacheck.storage.documents import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: yes\nno: off", {"on": "yes", "no": "off"}),
        ("a: true\nb: False", {"a": True, "b": False}),
        ("a: 1e5\nb: -1.5E-3\nc: .5\nd: 5.", {"a": 1e5, "b": -1.5e-3, "c": 0.5, "d": 5.0}),
        ("a: 010\nb: 0o10\nc: 0xff\nd: +3", {"a": 10, "b": 8, "c": 255, "d": 3}),
        ("a: .inf\nb: -.INF", {"a": float("inf"), "b": float("-inf")}),
        ("a: 12:30\nb: 2024-01-31\nc: 1_000", {"a": "12:30", "b": "2024-01-31", "c": "1_000"}),
        ("a:\nb: ~\nc: null", {"a": None, "b": None, "c": None}),
        ("null: 1", {None: 1}),
        ("'null': 1", {"null": 1}),
        ("1: a\ntrue: b\n1.5: c", {"1": "a", "true": "b", "1.5": "c"}),
        ("x: &a {p: 1, q: 2}\ny: {<<: *a, q: 3}", {"x": {"p": 1, "q": 2}, "y": {"p": 1, "q": 3}}),
        ("x: &a {p: 1}\nz: &b {p: 2, r: 4}\ny: {<<: [*a, *b]}", None),
        ("a: [1, x, {b: c}]", {"a": [1, "x", {"b": "c"}]}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: dict[Any, Any] | None) -> None:
    if value is None:
        assert parse_yaml(text, "s.yaml")["y"] == {"p": 1, "r": 4}
        return
    assert parse_yaml(text.encode(), "s.yaml") == value


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "s.yaml: is empty"),
        (b"# nothing\n", "s.yaml: is empty"),
        (b"- a\n", "s.yaml, line 1: expected a mapping such as 'fields:', got a list"),
        (b"\n\nhello\n", "s.yaml, line 3: expected a mapping such as 'fields:', got a single value"),
        (b"a: 1\nb: 2\na: 3\n", "s.yaml, line 3: duplicate key 'a', first in line 1"),
        (b"a: {x: 1,\n x: 2}\n", "s.yaml, line 2: duplicate key 'x'"),
        (b"null: 1\n~: 2\n", "s.yaml, line 2: duplicate key null"),
        (b"a: 1\n\tb: 2\n", "s.yaml, line 2: is not valid YAML: a tab is used for indentation"),
        (b"a: [1\n", "is not valid YAML"),
        (b"a: b: c\n", "s.yaml, line 1: is not valid YAML"),
        (b"a: 1\nb: \xff\n", "s.yaml, line 2: byte 0xff is not UTF-8"),
        (b"a: 1\nb: \x00\n", "s.yaml, line 2: the character '\\x00' is not allowed"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        (b"a: 1\n---\nb: 2\n", "is not valid YAML"),
        (b"a: *b\n", "s.yaml, line 1: is not valid YAML: found undefined alias"),
        (b"a: &a [*a]\n", "s.yaml, line 1: an anchor contains an alias to itself"),
        (b"a: &a {<<: *a}\n", "an anchor contains an alias to itself"),
        (b"a: {<<: 3}\n", "'<<' merges mappings"),
        (b"a: !!python/object/apply:os.system ['true']\n", "is not allowed; write plain values"),
        (b"a: !!binary aGk=\n", "is not allowed"),
        (b"a: !!set {x}\n", "is not allowed"),
        (b"a: !!int x\n", "'x' is not a valid number"),
        (b"a: !!bool x\n", "is not allowed"),
        (b"? [1, 2]\n: 3\n", "a key must be a name, got a list"),
        (b"a: " + b"9" * 5000, "is not a valid number"),
        (b"a: " + b"[" * 60 + b"]" * 60, "is nested more than 50"),
        (b"[" * 100_000, "is nested more than 50"),
        (bomb(8).encode(), "has more than 100,000 values"),
        (b"%YAML 3.0\n---\na: 1", "is not valid YAML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_broken_file_is_an_error_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(SchemaError) as error:
        load_yaml(tmp_path / "s.yaml")
    assert message.removeprefix("s.yaml") in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "s.yaml"))


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"a: " + b"x" * MAX_FILE_BYTES)
    with pytest.raises(SchemaError, match="is larger than 1,048,576 bytes"):
        load_yaml(tmp_path / "s.yaml")


def test_a_missing_file_comes_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "flights.yaml").write_text("a: 1")
    with pytest.raises(SchemaError, match=r"flihgts\.yaml: no such file; did you mean 'flights\.yaml'\?"):
        load_yaml(tmp_path / "flihgts.yaml")
    with pytest.raises(SchemaError, match="does not exist either"):
        load_yaml(tmp_path / "nowhere" / "flights.yaml")
    with pytest.raises(SchemaError, match=r"the folder .* has no file with a similar name"):
        load_yaml(tmp_path / "zzz.txt")


def test_a_folder_and_an_impossible_path_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="is a folder; expected a YAML file"):
        load_yaml(tmp_path)
    with pytest.raises(SchemaError, match="cannot be opened"):
        load_yaml("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("a: 1")
    (tmp_path / "s.yaml").chmod(0)
    with pytest.raises(SchemaError, match="cannot be opened: Permission denied"):
        load_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    "value",
    [
        "on",
        "null",
        "~",
        "1e5",
        "1_000",
        "12:30",
        "0o10",
        "010",
        "0x1",
        ".inf",
        "<<",
        "",
        " a",
        "a: b",
        "é",
        "\x07",
        "\u2028",
    ],
)
def test_strings_that_any_yaml_reads_as_something_else_are_quoted(value: str) -> None:
    assert parse_yaml(dump_yaml({value: [value], "x": None}), "s.yaml") == {value: [value], "x": None}


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    workers: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    job: Inner | None = None
    parts: list[Inner] = []
    kind: int | list[int] = 1


def test_validate_works_for_other_models_and_errors() -> None:
    with pytest.raises(PipelineError) as error:
        validate(Outer, {"job": {"wrokers": 2}, "parts": [{}, {"workers": "x"}], "kind": "y"}, "p.yaml", PipelineError)
    lines = str(error.value).splitlines()
    assert lines == [
        "p.yaml: job.wrokers: unknown key 'wrokers'; did you mean 'workers'?",
        "p.yaml: parts[1].workers: expected an integer, got 'x'",
        "p.yaml: kind: expected an integer, got 'y'",
    ]
