"""Help texts: every command has a short summary, an example that parses, and grouped options."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from datacheck.cli.app import build, main
from datacheck.cli.help import CHECKS, INPUT, OUTPUT, PERFORMANCE, TEXT_TABLES

ROOT: Any = build()
GROUPS = [(), ("schema",), ("baseline",)]


def find_command(*path: str) -> Any:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command


COMMANDS = [
    (*path, name)
    for path in GROUPS
    for name, command in find_command(*path).commands.items()
    if not hasattr(command, "commands")
]


def show_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *path: str, option: str = "--help"
) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert main([*path, option]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("path", [*GROUPS, *COMMANDS], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_a_help_page(
    path: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = show_help(capsys, monkeypatch, *path, option=option)
    assert out.startswith(f"Usage: {' '.join(('datacheck', *path))} ")
    assert "Options:" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: " ".join(path) or "datacheck")
def test_command_lists_show_whole_sentences(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = show_help(capsys, monkeypatch, *path)
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", out, re.MULTILINE))
    assert listed.keys() >= find_command(*path).commands.keys()
    for name in find_command(*path).commands:
        assert re.fullmatch(r"[A-Z][^.…]*\.", listed[name]), listed[name]


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Exit codes: 0 clean, 1 findings, 2 could not run." in show_help(capsys, monkeypatch)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_that_parses(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = show_help(capsys, monkeypatch, *path)
    (example,) = re.findall(r"^  Example: (.*)$", out, re.MULTILINE)
    program, *arguments = shlex.split(example)
    assert (program, *arguments[: len(path)]) == ("datacheck", *path)
    context = find_command(*path).make_context(path[-1], arguments[len(path) :])
    assert any(value not in (None, False, ()) for value in context.params.values())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_is_explained_and_in_a_group(path: tuple[str, ...]) -> None:
    for parameter in find_command(*path).params:
        assert re.fullmatch(r"(?s)[A-Z].*\.", parameter.help), parameter.name
        if parameter.param_type_name == "option":
            assert parameter.group in (INPUT, TEXT_TABLES, CHECKS, OUTPUT, PERFORMANCE), parameter.name
        if parameter.param_type_name == "argument" or not parameter.is_flag:
            assert parameter.metavar, parameter.name


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("explain DC10", "DC101"), ("explain na", "nan"), ("rows data --where DC20", "DC201"), ("scan --for", "--format")],
)
def test_a_shell_completes_codes_and_options(
    typed: str, completed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_DATACHECK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"datacheck {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    with pytest.raises(SystemExit) as ended:
        build().main(prog_name="datacheck")
    assert ended.value.code == 0
    assert f"plain,{completed}" in capsys.readouterr().out.split()


@pytest.mark.parametrize("option", ["--format", "--select", "--workers", "--color"])
def test_an_option_without_its_value_is_an_error(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "data", option]) == 2
    assert f"Option '{option}' requires an argument." in capsys.readouterr().err
