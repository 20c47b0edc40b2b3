"""The command: exit codes, stdout and stderr, and messages instead of tracebacks."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import command, contents, run_command, write_pipeline, write_table

import datacheck
import datacheck.cli
from datacheck.cli.app import main
from datacheck.codes import CODES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a clean and a dirty array, a schema and a pipeline."""
    monkeypatch.chdir(tmp_path)
    np.save("clean.npy", np.ones(4, np.float32))
    np.save("dirty.npy", np.array([1.0, np.nan, 3.0]))
    Path("schema.yaml").write_text("fields: {x: {dtype: float64, ge: 0}}\n")
    write_table(tmp_path / "t.parquet", {"x": [1.0, np.nan, 3.0]})
    write_pipeline(tmp_path, "t.parquet", [{"action": "impute", "strategy": "mean"}], schema="schema.yaml")
    return tmp_path


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, "--version") == (0, f"datacheck {datacheck.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["schema"],
        ["frobnicate"],
        ["scan"],
        ["scan", "--frobnicate", "clean.npy"],
        ["scan", "--format", "xml", "clean.npy"],
        ["scan", "--workers", "0", "clean.npy"],
        ["scan", "--workers", "many", "clean.npy"],
        ["scan", "nowhere.npy"],
        ["scan", "*.nothing"],
        ["scan", ""],
        ["scan", "s3://bucket/x.npy"],
        ["scan", "clean.npy", "--schema", "nowhere.yaml"],
        ["scan", "clean.npy", "--schema", "no.such.module:Model"],
        ["run"],
        ["run", "nowhere.yaml"],
        ["run", "schema.yaml"],
        ["run", "clean.npy"],
        ["run", "."],
        ["run", ""],
        ["fit", "pipeline.yaml", "-o", ""],
        ["fit", "pipeline.yaml", "-o", "clean.npy"],
        ["scan", "clean.npy", "--exclude", "!"],
        ["schema", "check", ""],
        ["fit", "nowhere.yaml"],
        ["clean", "pipeline.yaml"],
        ["clean", "pipeline.yaml", "--statistics", "schema.yaml"],
        ["clean", "pipeline.yaml", "--statistics", "."],
        ["schema", "check", "nowhere.yaml"],
        ["schema", "show", "clean.npy"],
        ["explain", "DC999"],
        ["explain", "DC101", "nonsense"],
    ],
    ids=" ".join,
)
def test_usage_errors_go_to_stderr_with_exit_code_2(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    code, out, err = outcome(capsys, *arguments)
    assert code == 2
    assert err.strip()
    assert len(err.splitlines()) < 45
    assert out == "" or arguments == ["explain", "DC101", "nonsense"]
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan", "clean.npi"], r"datacheck: clean\.npi: no such file or folder; did you mean 'clean\.npy'\?"),
        (["scan", "--shema", "x"], r"unknown option '--shema'; did you mean '--schema'\?"),
        (["scan", "--format", "htlm"], r"Error: Invalid value for '--format' / '-f': 'htlm' is not one of 'text'"),
        (["explain", "DC9999"], r"datacheck: unknown code 'DC9999'; did you mean 'DC9\d\d'\?"),
        (["explain", "duplicat"], r"datacheck: unknown code 'duplicat'; did you mean 'duplicate'\?"),
        (["rows", ".", "--where", "nun"], r"datacheck: unknown code 'nun'; did you mean 'nan'\?"),
        (["run", "pipelin.yaml"], r"datacheck: pipelin\.yaml: .*'pipeline\.yaml'"),
        (["clean", "pipeline.yaml"], r"datacheck: statistics\.json: .*create it with 'datacheck fit'"),
        (["run", "schema.yaml"], r"datacheck: schema\.yaml: is a schema, not a pipeline"),
    ],
)
def test_errors_name_the_place_and_a_fix(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = outcome(capsys, *arguments)
    assert code == 2
    assert re.search(message, err), err


def test_the_exit_code_of_a_scan_is_0_if_clean_and_1_if_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "scan", "clean.npy")
    assert (code, err) == (0, "")
    assert out.startswith("no findings in 1 file, 4 rows, ")
    code, out, err = outcome(capsys, "scan", "clean.npy", "dirty.npy")
    assert (code, err) == (1, "")
    assert out.splitlines()[0] == "DC101 1 of 3 values are NaN in the array (dirty.npy, row 1)"


def test_a_warning_exits_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("empty.npy", np.zeros((0, 2)))
    code, out, _ = outcome(capsys, "scan", "empty.npy")
    assert code == 0
    assert out.startswith("DC306 warning: ")


def test_a_run_accounts_for_every_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "run", "pipeline.yaml")
    assert (code, err) == (0, "")
    assert re.search(r"^data +3 += ?3|^data +3 +3 +0 +0$", out, re.MULTILINE)
    assert "values repaired by impute: x 1" in out
    assert "published to out: 1 file, 3 rows" in out
    code, out, _ = outcome(capsys, "run", "pipeline.yaml")
    assert code == 0
    assert "nothing to do: the output of these inputs is already in out" in out


def test_the_json_of_a_run_has_the_accounts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "run", "pipeline.yaml", "--format", "json")
    report = json.loads(out)
    assert code == 0
    assert report["ok"] is True
    (account,) = report["inputs"]
    assert (account["num_read"], account["num_kept"]) == (3, 3)
    assert report["findings"][0]["code"] == "DC101"


def test_fit_and_clean_are_the_halves_of_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "fit", "pipeline.yaml")
    assert (code, out, err) == (0, "statistics.json: 1 statistics from 3 rows\n", "")
    statistics = json.loads(Path("statistics.json").read_text())
    assert statistics["fields"][0]["values"] == [[2.0]]
    code, out, err = outcome(capsys, "clean", "pipeline.yaml", "t.parquet", "--output", "new", "--split", "fresh")
    assert (code, err) == (0, "")
    assert any(name.startswith("fresh/t-") for name in contents(folder / "new"))
    assert outcome(capsys, "clean", "pipeline.yaml", "--statistics", "statistics.json")[0] == 0
    assert (folder / "out" / "manifest.json").exists()


def test_the_output_of_another_run_is_kept_unless_overwrite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome(capsys, "run", "pipeline.yaml")
    write_pipeline(folder, "t.parquet", [{"action": "drop_row"}], schema="schema.yaml")
    code, out, err = outcome(capsys, "run", "pipeline.yaml")
    assert (code, out) == (2, "")
    assert "overwrite it with --overwrite, or choose another output" in err
    assert outcome(capsys, "run", "pipeline.yaml", "--overwrite")[0] == 0


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained_by_number_and_by_name(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = CODES[code]
    exit_code, out, err = outcome(capsys, "explain", code)
    assert (exit_code, err) == (0, "")
    assert out.startswith(f"{code} {entry.name} ({entry.severity})\n")
    assert all(f"\n{title}\n" in out for title in ("Finds", "Why", "Example", "Suggested fix"))
    assert outcome(capsys, "explain", entry.name.upper())[1] == out
    assert outcome(capsys, "explain", code.lower())[1] == out


def test_explain_without_arguments_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = outcome(capsys, "explain")
    assert [line.split()[0] for line in out.splitlines()] == list(CODES)


def test_explain_lists_the_codes_with_a_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "explain", "dc1")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [number for number in CODES if number.startswith("DC1")]


@pytest.mark.parametrize("wanted", ["", "xyzzy"])
def test_explain_of_an_unknown_code_says_how_to_list_them(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "explain", wanted)
    assert (code, out) == (2, "")
    assert err == f"datacheck: unknown code {wanted!r}; 'datacheck explain' lists all codes\n"


def test_schemas_are_checked_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.yaml").write_text("fields: {x: {dtype: float64, ge: 3, le: 2}}\n")
    code, out, err = outcome(capsys, "schema", "check", "schema.yaml", "wrong.yaml")
    assert code == 2
    assert "schema.yaml: 1 field" in out
    assert "wrong.yaml: fields.x.ge" in err
    code, out, _ = outcome(capsys, "schema", "show", "schema.yaml")
    assert code == 0
    Path("shown.yaml").write_text(out)
    assert datacheck.load_schema("shown.yaml") == datacheck.load_schema("schema.yaml")


def test_hostile_names_are_escaped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31mred\n\u202ename"
    np.save(f"{name}.npy", np.array([np.nan]))
    Path(f"{name}.parquet").write_bytes(b"broken")
    write_table(folder / "f.parquet", {f"\x1b]0;{name}\x07": [np.nan]})
    shown = ""
    for arguments in (
        ["scan", "."],
        ["scan", f"{name}.nowhere"],
        ["scan", ".", "--schema", name],
        ["run", f"{name}.yaml"],
        ["explain", name],
        ["schema", "check", name],
    ):
        _, out, err = outcome(capsys, *arguments)
        shown += out + err
    write_pipeline(folder, "*.parquet", [{"action": "impute", "strategy": "mean"}])
    for arguments in (["fit", "pipeline.yaml"], ["run", "pipeline.yaml"]):
        _, out, err = outcome(capsys, *arguments)
        shown += out + err
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "\\x1b[31mred" in shown


def test_names_that_are_not_unicode_are_shown(folder: Path) -> None:
    name = os.fsdecode(b"bad\xff.npy")
    np.save(name, np.array([np.nan]))
    for extra in ([], ["--format", "json"]):
        done = subprocess.run(
            command("scan", ".", *extra), capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
        )
        assert done.returncode == 1
        assert done.stderr == b""
        assert b"bad\\udcff.npy" in done.stdout


SLOW_SCAN = """
import time
from datacheck.jobs import scan
scan_group = scan.scan_group
def slowly(*arguments, **options):
    time.sleep(0.25)
    return scan_group(*arguments, **options)
scan.scan_group = slowly
from datacheck.cli import main
main()
"""


def test_progress_is_shown_on_a_terminal_and_leaves_stdout_alone(folder: Path) -> None:
    for number in range(3):
        np.save(f"more-{number}.npy", np.ones(2000))
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SCAN, "scan", ".", "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    # Reading fails once the other side of the terminal is closed.
    with suppress(OSError):
        while chunk := os.read(leader, 4096):
            shown += chunk
    os.close(leader)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.startswith(b"DC101 1 of 3 values"), shown
    assert b"\x1b" not in out
    assert b"scan" in shown
    assert re.search(rb"KiB.*rows", shown)


def test_only_results_are_printed_without_a_terminal(folder: Path) -> None:
    done = run_command("run", "pipeline.yaml")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [["scan", "dirty.npy"], ["explain"], ["schema", "show", "schema.yaml"]])
def test_a_full_stdout_is_an_error(arguments: list[str], folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "datacheck: cannot write to standard output: No space left on device\n"


def test_python_m_datacheck_works(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "datacheck", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"datacheck {datacheck.__version__}\n")


def test_ctrl_c_before_a_command_starts_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("datacheck.cli.app.main", interrupt)
    with pytest.raises(SystemExit) as ended:
        datacheck.cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "datacheck: interrupted\n"


@pytest.mark.parametrize(("name", "goes_on"), [("run", True), ("scan", False)])
def test_only_a_resumable_command_says_that_it_is(
    name: str, goes_on: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("datacheck.jobs.run.run", interrupt)
    monkeypatch.setattr("datacheck.sources.discover.os.path.lexists", interrupt)
    code, out, err = outcome(capsys, name, "pipeline.yaml" if goes_on else "dirty.npy")
    assert (code, out) == (130, "")
    assert ("continue from here" in err) == goes_on


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "dirty.npy", "--no-cache"],
        ["schema", "infer", "dirty.npy"],
        ["compare", "clean.npy", "dirty.npy", "--no-drift"],
    ],
    ids=["scan", "infer", "compare"],
)
def test_who_does_the_work_is_an_option_of_every_job(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*options: str) -> tuple[int, str]:
        code, printed, _ = outcome(capsys, *arguments, *options)
        return code, re.sub(r"\(.*/s\)", "", printed)

    asked = []

    def map_here(function: Any, items: Any, workers: int, lost: Any) -> Any:
        asked.append(function)
        return map(function, items)

    monkeypatch.setattr("datacheck.jobs.executors.processes.map_in_processes", map_here)
    expected = out()
    assert asked == []
    assert out("--executor", "processes") == expected
    assert asked
    code, _, error = outcome(capsys, *arguments, "--address", "auto")
    assert (code, "give --executor ray, too" in error) == (2, True)
    code, _, error = outcome(capsys, *arguments, "--shard", "1/2", "--executor", "ray")
    assert (code, "leave out --shard" in error) == (2, True)
