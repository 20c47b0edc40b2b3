"""``datacheck scan``: several reports from one check, color, paths, exit codes and DVC pointers."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_files import command

import datacheck
from datacheck.errors import ConfigurationError, UsageError

Save = Callable[..., Path]
Write = Callable[[str, str], Path]
Run = Callable[..., Any]

NAN = float("nan")


def test_each_file_belongs_to_the_format_before_it(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    done = run(
        *("scan", "a.npy", "--format", "sarif", "-o", "x.sarif", "--format", "text", "-f", "junit", "--output", "x.xml")
    )
    assert done.code == 1
    assert done.out.startswith("DC101 1 of 1 values are NaN")
    assert json.loads(Path("x.sarif").read_text())["version"] == "2.1.0"
    assert Path("x.xml").read_text().startswith("<?xml")
    assert Path("x.xml").read_text().endswith("</testsuites>\n")


def test_other_options_in_between_change_nothing(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    done = run("scan", "-f", "json", "--no-cache", "-w", "1", "-o", "x.json", "--ignore", "DC9", "a.npy", "-f", "jsonl")
    assert done.code == 1
    assert json.loads(Path("x.json").read_text())["findings"] == [json.loads(done.out.splitlines()[0])]


def test_a_report_written_only_to_files_prints_nothing(save: Save, run: Run) -> None:
    save("a.npy")
    assert run("scan", "a.npy", "--format=json", "-ox.json")[:2] == (0, "")
    assert json.loads(Path("x.json").read_text())["ok"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x"], "-o x needs a format before it: --format FORMAT -o x"),
        (["-o", "x", "-f", "json"], "-o x needs a format before it"),
        (["-f", "json", "-o", "x", "-o", "y"], "-o y needs a format before it"),
        (["-f", "json", "-f", "text"], "json and text would all go to standard output"),
        (["-f", "json", "-o", "x", "-f", "text", "-o", "x"], "-o x is given twice"),
    ],
)
def test_unpaired_formats_and_files_are_an_error_before_anything_is_read(
    folder: Path, run: Run, options: list[str], message: str
) -> None:
    done = run("scan", "nowhere.npy", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_report_file_is_replaced_atomically(save: Save, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.npy", [NAN])
    Path("x.json").write_text("before")
    monkeypatch.setattr("os.fsync", _full)
    done = run("scan", "a.npy", "-f", "json", "-o", "x.json")
    assert done.code == 2
    assert "x.json" in done.err
    assert Path("x.json").read_text() == "before"
    assert sorted(path.name for path in Path().iterdir()) == [".git", "a.npy", "x.json"]


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_missing_folder_is_an_error_that_names_it(save: Save, run: Run) -> None:
    save("a.npy")
    done = run("scan", "a.npy", "-f", "json", "-o", "nowhere/x.json")
    assert done.code == 2
    assert "nowhere" in done.err


@pytest.mark.parametrize("name", ["", " ", ".", "sub", "a.npy", "link.json", "sub/a.npy/x", "x" * 300])
def test_a_report_never_replaces_data(save: Save, run: Run, name: str) -> None:
    path = save("a.npy", [NAN])
    save("sub/a.npy")
    Path("link.json").symlink_to("a.npy")
    before = path.read_bytes()
    done = run("scan", "a.npy", "-f", "json", "-o", name)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [["baseline", "write", "a.npy", "-o"], ["schema", "infer", "a.npy", "--overwrite", "-o"]],
    ids=lambda arguments: arguments[1],
)
@pytest.mark.parametrize("name", ["", "a.npy"])
def test_no_command_overwrites_data(save: Save, run: Run, arguments: list[str], name: str) -> None:
    before = save("a.npy").read_bytes()
    assert run(*arguments, name)[:2] == (2, "")
    assert Path("a.npy").read_bytes() == before


def test_a_report_can_be_written_to_a_named_pipe(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    os.mkfifo("pipe")
    descriptor = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run("scan", "a.npy", "-f", "json", "-o", "pipe").code == 1
    assert json.loads(os.read(descriptor, 1 << 16))["ok"] is False
    os.close(descriptor)
    assert Path("pipe").is_fifo()


def test_a_report_is_written_through_a_link(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    Path("link.json").symlink_to("real.json")
    assert run("scan", "a.npy", "-f", "json", "-o", "link.json").code == 1
    assert Path("link.json").is_symlink()
    assert json.loads(Path("real.json").read_text())["ok"] is False


def test_stdout_redirected_to_a_file_is_not_replaced(save: Save) -> None:
    save("a.npy", [NAN])
    with Path("log").open("w") as log:
        log.write("before\n")
        log.flush()
        words = command("scan", "a.npy", "-f", "jsonl", "-o", "/dev/stdout")
        assert subprocess.run(words, stdout=log, check=False).returncode == 1
    lines = Path("log").read_text().splitlines()
    assert lines[0] == "before"
    assert json.loads(lines[-1])["ok"] is False


def test_a_dash_is_stdout(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    done = run("scan", "a.npy", "-f", "jsonl", "-o", "-", "-f", "text", "-o", "x.txt")
    assert json.loads(done.out.splitlines()[-1])["ok"] is False
    assert Path("x.txt").read_text().startswith("DC101")
    assert not Path("-").exists()
    assert "would all go to standard output" in run("scan", "a.npy", "-f", "jsonl", "-o", "-", "-f", "text").err


@pytest.mark.parametrize("name", ["run", "clean"])
def test_other_commands_have_every_format_too(run: Run, name: str) -> None:
    assert "sarif" in run(name, "--help").out


# Color


@pytest.mark.parametrize(
    ("variables", "options", "colored"),
    [
        ({}, [], False),
        ({}, ["--color", "always"], True),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({"DATACHECK_COLOR": "always"}, [], True),
        ({"DATACHECK_COLOR": "always"}, ["--color", "never"], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": ""}, [], False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
    ],
)
def test_color_in_a_pipe(
    save: Save, run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: list[str], colored: bool
) -> None:
    save("a.npy", [NAN])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[31mDC101" in run("scan", "a.npy", *options).out) is colored


@pytest.mark.parametrize(
    ("variables", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_color_on_a_terminal(save: Save, folder: Path, variables: dict[str, str], colored: bool) -> None:
    save("a.npy", [NAN])
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    done = subprocess.run(command("scan", "a.npy"), stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    printed = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 1
    assert (b"\x1b[31mDC101" in printed) is colored


# Schemas, exclusion and selection


def test_the_configured_paths_are_checked_by_default(save: Save, write: Write, run: Run) -> None:
    assert run("scan").err == (
        "datacheck: nothing to check: name files or folders, or set 'paths' in the configuration\n"
    )
    save("data/a.npy", [NAN])
    save("b.npy", [NAN])
    write("datacheck.yaml", "paths: [data]\n")
    done = run("scan")
    assert done.code == 1
    assert "data/a.npy" in done.out
    assert "b.npy" not in done.out


def test_each_file_has_the_schema_of_the_first_matching_pattern(save: Save, write: Write, run: Run) -> None:
    for name in ("data/train/a.npy", "data/test/a.npy", "data/b.npy"):
        save(name, [5.0])
    write("schemas/low.yaml", "fields: {x: {le: 1}}\n")
    write("schemas/high.yaml", "fields: {x: {le: 9}}\n")
    write("datacheck.yaml", "schemas: {data/train/: schemas/low.yaml, 'data/**/a.npy': schemas/high.yaml}\n")
    done = run("scan", "data")
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()] == ["DC202", "1"]
    assert "data/train/a.npy" in done.out
    assert run("scan", "data", "--schema", "schemas/high.yaml").code == 0


def test_findings_are_in_the_order_of_the_files_whatever_their_schema(save: Save, write: Write, run: Run) -> None:
    for name in ("a.npy", "b.npy", "c.npy", "d.npy"):
        save(name, [NAN])
    write("s.yaml", "fields: {x: {}}\n")
    write("datacheck.yaml", "schemas: {'[bd].npy': s.yaml}\n")
    done = run("scan", "a.npy", "b.npy", "c.npy", "d.npy", "-f", "jsonl")
    assert [json.loads(line).get("uri") for line in done.out.splitlines()][:-1] == ["a.npy", "b.npy", "c.npy", "d.npy"]


def test_excluded_files_are_skipped_even_if_named(save: Save, run: Run) -> None:
    for name in ("a.npy", "raw/b.npy"):
        save(name, [NAN])
    done = run("scan", "a.npy", "raw/b.npy", "--exclude", "raw/", "--exclude", "x.npy")
    assert "raw/b.npy" not in done.out
    page = run("scan", "a.npy", "raw/b.npy", "--exclude", "raw/", "-f", "html")
    assert (page.code, page.err, "a.npy" in page.out) == (1, "", True)


@pytest.mark.parametrize(
    ("paths", "excluded", "expected"),
    [
        (["raw/b.npy"], ["*.x", "raw/"], "DC913 info: 1 file was not checked: excluded by 'raw/' (raw/b.npy)"),
        (["raw"], ["!a", "*.npy"], "DC913 info: 2 files were not checked: excluded by '*.npy' (raw)"),
        (["raw"], ["b.*", "raw/c.npy"], "DC913 info: 2 files were not checked: excluded by 'b.*', 'raw/c.npy' (raw)"),
    ],
)
def test_a_note_says_what_excludes_every_file(
    paths: list[str], excluded: list[str], expected: str, save: Save, run: Run
) -> None:
    for name in ("raw/b.npy", "raw/c.npy"):
        save(name, [NAN])
    options = [f"--exclude={pattern}" for pattern in excluded]
    done = run("scan", *paths, *options)
    assert (done.code, done.out.splitlines()[0]) == (0, expected)
    assert " in 0 files, 0 rows, 0 bytes" in done.out
    (found,) = json.loads(run("scan", *paths, *options, "-f", "json").out)["findings"]
    assert (found["code"], found["severity"]) == ("DC913", "info")
    assert run("scan", *paths, *options, "--sample", "50%").out.splitlines()[0] == expected
    assert "DC913" in run("scan", *paths, *options, "-f", "html").out


def test_exclude_patterns_on_the_command_line_are_relative_to_the_current_folder(
    save: Save, write: Write, run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    write("datacheck.yaml", "ignore: [DC9]\n")
    for name in ("sub/a.npy", "sub/b.npy"):
        save(name, [NAN])
    monkeypatch.chdir(folder / "sub")
    assert "b.npy" not in run("scan", ".", "--exclude", "/b.npy").out


def test_ignored_findings_are_counted(save: Save, run: Run) -> None:
    save("a.npy", [NAN, float("inf")])
    done = run("scan", "a.npy", "--ignore", "DC101")
    assert done.code == 1
    assert "; 1 finding ignored; " in done.out.splitlines()[-1]


def test_a_warning_does_not_fail(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    done = run("scan", "a.npy", "--severity", "DC1=warning")
    assert done.code == 0
    assert done.out.startswith("DC101 warning: 1 of 1 values are NaN")


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234\n"
DVC = "outs:\n- md5: a304afb96060aad90176268345e10355\n  size: 1234\n  path: a.npy\n"


def test_pointer_files_are_reported_as_such(write: Write, run: Run) -> None:
    write("lfs.parquet", LFS)
    write("a.npy.dvc", DVC)
    done = run("scan", "lfs.parquet", "a.npy.dvc")
    assert done.code == 1
    first, second, _ = done.out.splitlines()
    assert first.startswith("DC906 is a pointer, not the data: it is a Git LFS pointer")
    assert second.startswith(
        "DC906 is a pointer, not the data: only its DVC pointer is here; fetch the data with `dvc pull"
    )


def test_file_names_in_suggested_commands_are_quoted(write: Write, run: Run) -> None:
    write("a b;$(id).parquet", LFS)
    write("c d.npy.dvc", DVC)
    out = run("scan", "a b;$(id).parquet", "c d.npy.dvc").out
    assert "`git lfs pull --include='a b;$(id).parquet'`" in out
    assert "`dvc pull 'c d.npy.dvc'`" in out


def test_data_next_to_its_dvc_pointer_is_checked(save: Save, write: Write, run: Run) -> None:
    write("a.npy.dvc", DVC)
    save("a.npy", [NAN])
    done = run("scan", "a.npy.dvc")
    assert done.code == 1
    assert done.out.startswith("DC101 1 of 1 values are NaN in the array (a.npy, row 0)")


# In Python


def test_the_function_does_what_the_command_does(save: Save, write: Write, run: Run) -> None:
    save("data/a.npy", [NAN])
    write("datacheck.yaml", "paths: [data]\nseverity: {DC101: warning}\n")
    report = datacheck.check()
    assert report.ok
    assert [finding.code for finding in report.findings] == ["DC101"]
    assert datacheck.check(ignore=["DC1"]).findings == ()
    assert not datacheck.check(Path("data"), severity={"DC101": "error"}, cache=False).ok
    assert str(report).splitlines()[0] == run("scan").out.splitlines()[0]


def test_an_unknown_setting_of_the_function_is_an_error(save: Save) -> None:
    save("a.npy")
    with pytest.raises(ConfigurationError, match=r"check\(ignor=\): ignor: unknown key .*did you mean 'ignore'"):
        datacheck.check("a.npy", ignor=["DC1"])
    with pytest.raises(UsageError, match="not both: schema"):
        datacheck.check("a.npy", schema="x", configuration=_configuration())


def _configuration() -> Any:
    from datacheck.gate.configuration import configure

    return configure()


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_a_report_of_ours_is_replaced_and_data_is_not(name: str, save: Save, run: Run) -> None:
    save("data/a.npy", [1, NAN])
    kind = name.partition(".")[2]
    for _ in range(2):
        assert run("scan", "data", "--format", kind, "-o", name).code == 1
    Path(name).write_text('[{"x": 1}]' if kind == "json" else '{"x": 1}\n')
    done = run("scan", "data", "--format", kind, "-o", name)
    assert done.code == 2
    assert "is a data file, which is never replaced" in done.err


def test_many_findings_are_summed_up_and_a_limit_lists_them(save: Save, run: Run) -> None:
    for number in range(45):
        save(f"data/{number:02}.npy", [1, NAN])
    lines = run("scan", "data").out.splitlines()
    assert lines[0].split() == ["found", "field", "violations", "of", "in", "first"]
    assert lines[1].split()[-6:] == ["90", "45", "files", "data/00.npy,", "row", "1"]
    assert "and 35 more findings; --limit 0 prints all" in lines
    assert len(lines) < 20
    assert len(run("scan", "data", "--limit", "0").out.splitlines()) == 46
    (last,) = run("scan", "data", "--quiet").out.splitlines()
    assert last.startswith("45 errors in 45 files, 90 rows")
