"""What commands make of reports: summaries, rows, links, lines, differences, dry runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table

from datacheck.cli.app import main
from datacheck.findings import Example, Finding
from datacheck.reports.formats import render
from datacheck.reports.links import link_files
from datacheck.reports.report import Report
from datacheck.reports.report_diff import diff_reports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table that has bad rows and a text table with a repeated key."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t.parquet", {"x": [1.0, np.nan, np.inf]})
    Path("keys.csv").write_text('k,text\n1,"two\nlines"\n2,b\n1,c\n')
    Path("keys.yaml").write_text("unique: [k]\nfields: {k: {}}\n")
    return tmp_path


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_a_summary_is_the_table_and_the_last_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "scan", "t.parquet", "--summary", "--no-cache")
    head, *rows, last = out.splitlines()
    assert code == 1
    assert head.split() == ["found", "field", "violations", "of", "in", "first"]
    assert [row.split()[0] for row in rows] == ["DC101", "DC102"]
    assert last.startswith("2 errors in 1 file")


@pytest.mark.parametrize("options", [("-q", "--summary"), ("--limit", "3", "-q"), ("--limit", "0", "--summary")])
def test_contradicting_options_are_refused_before_anything_is_read(
    options: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(capsys, "scan", "t.parquet", *options) == (
        2,
        "",
        "datacheck: give only one of --limit, --quiet and --summary\n",
    )


def test_the_bad_rows_follow_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "scan", "t.parquet", "-q", "--show-rows", "1", "--ignore", "DC101")
    assert code == 1
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["file", "row", "found", "x"],
        ["t.parquet", "2", "DC102", "inf"],
        ["the", "first", "1;", "'datacheck", "rows'", "prints", "more"],
    ]
    json.loads(outcome(capsys, "scan", "t.parquet", "--show-rows", "1", "--format", "json")[1])


@pytest.mark.parametrize("packed", ["keys.csv", "keys.jsonl"])
def test_findings_on_the_dataset_have_their_lines(
    packed: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("keys.jsonl").write_text('{"k": 1}\n\n\n{"k": 2}\n{"k": 1}\n')
    for options in ((), ("--no-cache",), ()):
        _, out, _ = outcome(capsys, "scan", packed, "-s", "keys.yaml", "--format", "github", *options)
        assert out.startswith(f"::error file={packed},line=5,title=DC301 duplicate::")
    _, out, _ = outcome(capsys, "scan", packed, "-s", "keys.yaml", "--format", "gitlab")
    assert [issue["location"]["lines"]["begin"] for issue in json.loads(out)] == [5]
    _, out, _ = outcome(capsys, "scan", packed, "-s", "keys.yaml", "--format", "sarif")
    (result,) = json.loads(out)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 5}


def test_a_run_names_the_lines_of_duplicates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = write_pipeline(folder, "keys.csv", [], schema="keys.yaml")
    _, out, _ = outcome(capsys, "run", str(pipeline), "--format", "json")
    (finding,) = [one for one in json.loads(out)["findings"] if one["code"] == "DC301"]
    assert [(example["row"], example["line"]) for example in finding["examples"]] == [(2, 5)]


def test_names_of_files_link_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["plain.csv", "a, (b)/é 1.csv", "gone.csv"]
    (tmp_path / "a, (b)").mkdir()
    for name in names[:2]:
        Path(name).touch()
    findings = [Finding("DC101", name, "x (plain.csv", 1, 2, (Example(7),)) for name in names]
    for text in (Report(tuple(findings)).to_text(), Report(tuple(findings)).to_text(limit=1)):
        linked = link_files(text, names)
        assert linked.replace("\x1b", "") != text
        for name in names[:2]:
            address = (tmp_path / name).as_uri().partition("file://")[2]
            assert f"{address}\x1b\\{name}\x1b]8;;\x1b\\" in linked or name not in text
        assert "gone.csv\x1b" not in linked


def test_a_terminal_without_links_gets_none(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_HYPERLINK", raising=False)
    assert "\x1b" not in outcome(capsys, "scan", "t.parquet")[1]
    monkeypatch.setenv("FORCE_HYPERLINK", "1")
    assert "\x1b]8;;file://" in outcome(capsys, "scan", "t.parquet")[1]
    assert "\x1b" not in outcome(capsys, "scan", "t.parquet", "--format", "markdown")[1]
    monkeypatch.setenv("FORCE_HYPERLINK", "0")
    assert "\x1b" not in outcome(capsys, "scan", "t.parquet")[1]


def finding(code: str, uri: str, number: int, field: str = "x") -> Finding:
    return Finding(code, uri, field, number, 10)


def written(path: str, *findings: Finding, format: str = "json") -> str:  # noqa: A002 - the option's name
    Path(path).write_text(render(Report(findings, 3, 30), format))
    return path


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_a_diff_tells_new_grown_fixed_and_unchanged_findings_apart(
    format_: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = written("old.json", *(finding("DC101", f"{n}.npy", 3) for n in "abcd"), format=format_)
    new = [finding("DC101", "a.npy", 3), finding("DC101", "b.npy", 4), finding("DC101", "c.npy", 1)]
    diff = diff_reports(old, written("new.json", *new, finding("DC102", "a.npy", 1), format=format_))
    assert [(one.code, one.uri, one.detail) for one in diff.findings] == [
        ("DC101", "b.npy", "3 before"),
        ("DC102", "a.npy", ""),
    ]
    assert [(one.uri, one.num_known, one.num_left) for one in diff.fixed] == [("c.npy", 3, 1), ("d.npy", 3, 0)]
    assert [one.uri for one in diff.unchanged] == ["a.npy"]
    code, out, _ = outcome(capsys, "diff", "old.json", "new.json")
    assert code == 1
    assert out.splitlines()[-1] == "2 new findings (2 errors), 2 fixed, 1 unchanged"
    assert outcome(capsys, "diff", "new.json", "new.json")[:2] == (0, "no difference: 4 findings in both\n")


def test_reports_on_two_versions_of_a_folder_are_compared_below_it(folder: Path) -> None:
    old = written("old.json", finding("DC101", "data/v1/a/x.npy", 1), finding("DC101", "data/v1/y.npy", 1))
    new = written("new.json", finding("DC101", "/other/v2/a/x.npy", 1), finding("DC101", "/other/v2/y.npy", 2))
    diff = diff_reports(old, new)
    assert [one.uri for one in diff.unchanged] == ["/other/v2/a/x.npy"]
    assert [one.uri for one in diff.findings] == ["/other/v2/y.npy"]


def test_a_diff_has_every_form_of_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "<script>|x"
    written("old.json", finding("DC101", "a.npy", 1, hostile))
    written("new.json", finding("DC102", "a.npy", 1))
    markdown = outcome(capsys, "diff", "old.json", "new.json", "--format", "markdown")[1]
    assert "| DC101 | <code>a&#46;npy</code> |" in markdown or "| DC101 | <code>a.npy</code> |" in markdown
    page = outcome(capsys, "diff", "old.json", "new.json", "--format", "html")[1]
    assert "Fixed" in page
    assert hostile not in markdown
    assert hostile not in page
    record = json.loads(outcome(capsys, "diff", "old.json", "new.json", "--format", "json")[1])
    assert (record["ok"], len(record["findings"]), len(record["fixed"]), record["unchanged"]) == (False, 1, 1, [])
    lines = outcome(capsys, "diff", "old.json", "new.json", "--format", "jsonl")[1].splitlines()
    assert [json.loads(line).get("code") for line in lines] == ["DC102", None]


def test_a_run_and_its_manifest_are_reports_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = write_pipeline(folder, "t.parquet", [], otherwise="drop_row")
    Path("run.json").write_text(outcome(capsys, "run", str(pipeline), "--format", "json")[1])
    (manifest,) = folder.glob("*/manifest.json")
    assert outcome(capsys, "diff", "run.json", str(manifest))[0] == 0


def test_findings_of_checks_of_your_own_can_be_compared(folder: Path) -> None:
    record = {**finding("DC101", "a.npy", 2).to_dict(), "code": "X907", "name": "mine {0}"}
    Path("old.json").write_text(json.dumps({"ok": False, "findings": [record]}))
    Path("new.json").write_text(json.dumps({"ok": True, "findings": []}))
    assert [one.code for one in diff_reports("old.json", "new.json").fixed] == ["X907"]
    assert diff_reports("new.json", "old.json").to_text()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"3", b"\xff", b'{"findings": [{"code": "DC999"}]}', b"[" * 100_000]
)
def test_what_is_no_report_is_said(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_bytes(content)
    written("good.json")
    code, out, err = outcome(capsys, "diff", "good.json", "bad.json")
    assert (code, out) == (2, "")
    assert err.startswith("datacheck: bad.json: not a report of datacheck")
    assert "datacheck scan --format json" in err
    assert "nowhere.json: no such file" in outcome(capsys, "diff", "nowhere.json", "good.json")[2]


def test_a_dry_run_says_what_a_run_would_do_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"action": "impute", "strategy": "mean", "fields": "x"}, {"action": "drop_row", "codes": "DC1"}]
    pipeline = str(write_pipeline(folder, "t.parquet", rules))
    before = contents(folder)
    code, out, err = outcome(capsys, "run", pipeline, "--dry-run")
    assert (code, err) == (0, "")
    assert contents(folder) == before
    lines = [line.split() for line in out.splitlines()]
    assert ["0", "impute", "mean", "DC101,", "DC104,", "DC110", "x"] in lines
    assert ["1", "drop_row", "DC1", "x"] in lines
    assert "rule 0 learns from the split" in out
    assert out.splitlines()[-1] == "dry run: only headers were read, and nothing was written"
    outcome(capsys, "run", pipeline)
    assert "nothing to do: the output of these inputs is already in" in outcome(capsys, "run", pipeline, "--dry-run")[1]
    write_table(folder / "t.parquet", {"x": [1.0]})
    code, out, err = outcome(capsys, "run", pipeline, "--dry-run")
    assert (code, out) == (2, "")
    assert "holds the output of another run" in err
    assert "replace what an earlier run published" in outcome(capsys, "run", pipeline, "--dry-run", "--overwrite")[1]
    assert "leave out --format" in outcome(capsys, "run", pipeline, "--dry-run", "--format", "json")[2]


def test_a_dry_run_names_inputs_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.parquet").write_bytes(b"PAR1 no")
    pipeline = str(write_pipeline(folder, ["t.parquet", "broken.parquet"], []))
    code, out, _ = outcome(capsys, "run", pipeline, "--dry-run")
    assert code == 1
    assert "cannot be read, and would be left out: broken.parquet" in out


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("scna", "unknown command 'scna'; did you mean 'scan'?"),
        ("validate", "unknown command 'validate'; did you mean 'scan'?"),
        ("infer", "unknown command 'infer'; did you mean 'schema infer'?"),
        ("schema shwo", "unknown command 'shwo'; did you mean 'show'?"),
        ("baseline check", "unknown command 'check'\n"),
        ("xyzzy\x1b[31m", "unknown command 'xyzzy\\x1b[31m'"),
    ],
)
def test_an_unknown_command_names_the_nearest(wrong: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, *wrong.split(" "))
    assert (code, out) == (2, "")
    assert hint in err


def test_codes_of_your_own_are_explained_by_their_schema(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_checks_of_mine.py").write_text(
        "import datacheck\n\n@datacheck.own_check('X908', 'are odd', why='Loads are sums of two meters.')\n"
        "def even(values):\n    return values % 2 == 1\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    Path("own.yaml").write_text("fields: {k: {own_checks: ['own_checks_of_mine:even']}}\n")
    err = outcome(capsys, "explain", "x908")[2]
    assert "X908 is the code of a check of your own; name the schema that has it" in err
    assert "names no check with the code X909" in outcome(capsys, "explain", "X909", "--schema", "own.yaml")[2]
    code, out, _ = outcome(capsys, "explain", "X908", "--schema", "own.yaml")
    assert code == 0
    assert "Loads are sums of two meters." in out


def test_a_schema_of_rules_about_the_dataset_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sequence.yaml").write_text("sequence: {on: t, step: 1}\nnum_rows: {ge: 3}\n")
    assert outcome(capsys, "schema", "check", "sequence.yaml")[1] == "sequence.yaml: 1 sequence rule, 1 size\n"


def test_a_comparison_can_be_summed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_table(folder / f"{name}.parquet", {"k": [1, 2, 3]})
    code, out, _ = outcome(capsys, "compare", "a.parquet", "b.parquet", "--no-drift", "--key", "k", "--summary")
    assert code == 1
    assert out.splitlines()[0].split() == ["found", "field", "violations", "of", "in", "first"]
    assert (
        len(outcome(capsys, "compare", "a.parquet", "b.parquet", "--no-drift", "--key", "k", "-q")[1].splitlines()) == 1
    )


def test_rows_of_a_check_of_your_own_need_a_schema_that_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_checks_of_rows.py").write_text(
        "import datacheck\n\n@datacheck.own_check('X911', 'are odd')\ndef even(values):\n    return values % 2 == 1\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    Path("own.yaml").write_text("fields: {k: {own_checks: ['own_checks_of_rows:even']}}\n")
    err = outcome(capsys, "rows", "keys.csv", "--where", "X911")[2]
    assert err == "datacheck: no schema of these files names a check with the code X911\n"
    code, out, _ = outcome(capsys, "rows", "keys.csv", "--where", "X911", "--schema", "own.yaml")
    assert code == 1
    assert len(out.splitlines()) == 3
