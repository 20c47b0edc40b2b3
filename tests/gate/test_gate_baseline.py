"""The baseline: known findings pass, new and grown ones fail, and fixed ones are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacheck import Finding, Severity
from datacheck.errors import ConfigurationError
from datacheck.gate.baseline import Baseline, CheckedFiles, load_baseline, save_baseline

Save = Callable[..., Path]
Write = Callable[[str, str], Path]
Run = Callable[..., Any]

NAN = float("nan")
INF = float("inf")
NAME = "datacheck-baseline.json"


def test_only_new_findings_fail_after_writing_a_baseline(save: Save, run: Run) -> None:
    save("data/a.npy", [1, NAN, NAN])
    save("data/b.npy")
    assert run("scan", "data").code == 1
    assert run("baseline", "write", "data").out == f"{NAME}: 1 known finding in 1 file\n"
    done = run("scan", "data")
    assert done.code == 0
    assert done.out.splitlines()[0] == f"1 known finding in {NAME}"
    save("data/b.npy", [INF])
    done = run("scan", "data")
    assert done.code == 1
    assert done.out.splitlines()[0] == "DC102 1 of 1 values are +inf in the array (data/b.npy, row 0)"
    assert run("scan", "data", "--no-baseline").out.count("DC10") == 2


def test_a_finding_with_more_violations_than_known_fails(save: Save, run: Run) -> None:
    save("a.npy", [1, NAN])
    run("baseline", "write", ".")
    save("a.npy", [NAN, NAN])
    done = run("scan", "a.npy")
    assert done.code == 1
    assert done.out.splitlines()[0] == (
        "DC101 2 of 2 values are NaN in the array: 1 of them are known (a.npy, rows 0, 1)"
    )


def test_fixed_findings_are_reported(save: Save, run: Run) -> None:
    save("a.npy", [NAN, NAN, INF])
    save("b.npy", [NAN])
    run("baseline", "write", ".")
    save("a.npy", [NAN, 1, 2])
    (Path("b.npy")).unlink()
    done = run("scan", ".")
    assert done.code == 0
    assert done.out.splitlines()[:4] == [
        "fixed: DC101 nan, 2 known, 1 left (./a.npy)",
        "fixed: DC102 pos-inf, 1 known, none left (./a.npy)",
        "fixed: DC101 nan, 1 known, none left (b.npy)",
        "3 known findings fixed; record it with 'datacheck baseline write'",
    ]
    run("baseline", "write", ".")
    assert "fixed" not in run("scan", ".").out
    save("a.npy", [NAN, NAN, 2])
    assert run("scan", ".").code == 1


def test_files_that_were_not_checked_are_never_fixed(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    save("b.npy", [NAN])
    run("baseline", "write", ".")
    save("b.npy", [1])
    assert "fixed" not in run("scan", "a.npy").out


def test_an_unreadable_file_has_no_fixed_findings(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    run("baseline", "write", ".")
    Path("a.npy").write_bytes(b"\x93NUMPY")
    done = run("scan", "a.npy")
    assert done.code == 1
    assert "fixed" not in done.out


def test_ignored_findings_are_not_fixed(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    run("baseline", "write", ".")
    assert "fixed" not in run("scan", "a.npy", "--ignore", "DC1").out


def test_a_moved_file_keeps_its_known_findings(save: Save, run: Run) -> None:
    save("a.npy", [1, NAN])
    run("baseline", "write", ".")
    Path("sub").mkdir()
    Path("a.npy").rename("sub/other.npy")
    done = run("scan", ".")
    assert done.code == 0
    assert "fixed" not in done.out
    save("sub/other.npy", [NAN, NAN])
    assert run("scan", ".").code == 1


def test_paths_are_relative_to_the_baseline(
    save: Save, run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    save("sub/a.npy", [1, NAN])
    run("baseline", "write", "sub")
    assert list(json.loads(Path(NAME).read_text())["files"]) == ["sub/a.npy"]
    monkeypatch.chdir(folder / "sub")
    assert run("scan", "a.npy", "--baseline", f"../{NAME}").code == 0
    assert run("scan", str(folder / "sub"), "--baseline", str(folder / NAME)).code == 0


def test_writing_for_some_files_keeps_the_entries_of_others(save: Save, run: Run) -> None:
    for name in ("a.npy", "b.npy", "gone.npy"):
        save(name, [NAN])
    run("baseline", "write", ".")
    save("a.npy", [1])
    Path("gone.npy").unlink()
    run("baseline", "write", "a.npy")
    assert list(json.loads(Path(NAME).read_text())["files"]) == ["b.npy"]


def test_tolerated_and_ignored_findings_are_not_recorded(save: Save, write: Write, run: Run) -> None:
    write("datacheck.yaml", "tolerances: {null: 1}\nignore: [DC102]\n")
    save("a.npy", [NAN, INF])
    run("baseline", "write", "a.npy")
    assert json.loads(Path(NAME).read_text())["files"] == {}


def test_equal_findings_give_an_equal_baseline_file(save: Save, run: Run) -> None:
    for name in ("b.npy", "a.npy"):
        save(name, [NAN, INF])
    run("baseline", "write", "b.npy", "a.npy")
    first = Path(NAME).read_bytes()
    Path(NAME).unlink()
    run("baseline", "write", ".", "--workers", "1")
    assert Path(NAME).read_bytes() == first
    assert first.endswith(b"}\n")


def test_writing_to_another_name_says_how_to_use_it(save: Save, run: Run) -> None:
    save("a.npy", [NAN])
    done = run("baseline", "write", ".", "-o", "known.json")
    assert done.out.splitlines()[1] == "use it with --baseline known.json, or set 'baseline' in the configuration"
    assert run("scan", "a.npy").code == 1
    assert run("scan", "a.npy", "--baseline", "known.json").code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a baseline"),
        ("[]", "not a baseline"),
        ("<<<<<<< HEAD\n", "not a baseline"),
        ('{"version": 1}', "not a baseline ('files' is missing)"),
        ('{"version": 1, "files": {"a": {}}}', "not a baseline ('findings' is missing)"),
        ('{"version": 1, "files": {"a": {"content": null, "findings": [{}]}}}', "not a baseline ('field' is missing)"),
        (
            '{"version": 1, "files": {"a": {"findings": [{"field": null, "code": "DC101", "num_violations": 1e999}]}}}',
            "not a baseline (num_violations must be an integer of at least 0)",
        ),
        (
            '{"version": 1, "files": {"a": {"content": 5, "findings": []}}}',
            "not a baseline (field, rule and content must be a string or null)",
        ),
        ('{"version": 2, "files": {}}', "unknown version 2; expected 1"),
    ],
)
def test_a_broken_baseline_is_an_error_with_a_fix(write: Write, content: str, message: str) -> None:
    write(NAME, content)
    with pytest.raises(ConfigurationError) as caught:
        load_baseline(NAME)
    assert str(caught.value).startswith(f"{NAME}: {message}")


def test_a_missing_baseline_is_an_error(save: Save, run: Run) -> None:
    save("a.npy")
    done = run("scan", "a.npy", "--baseline", "nowhere.json")
    assert (done.code, done.out) == (2, "")
    assert done.err == ("datacheck: nowhere.json: no such file; create it with 'datacheck baseline write'\n")
    assert run("scan", "a.npy", "--baseline", "x", "--no-baseline").code == 2


# Properties

keys = st.tuples(st.sampled_from(["a.npy", "b\n.npy", "c\udc80"]), st.sampled_from([None, "x", "y|\u202e"]))
counts = st.dictionaries(st.tuples(keys, st.sampled_from(["DC101", "DC302"])), st.integers(1, 5), max_size=8)


def findings_of(found: dict[Any, int]) -> list[Finding]:
    return [
        Finding(code, uri, field, number, 9, rule="r" if code == "DC302" else None)
        for ((uri, field), code), number in found.items()
    ]


def checked_files(findings: list[Finding]) -> CheckedFiles:
    return CheckedFiles(["a.npy", "b\n.npy", "c\udc80"], ["."], findings, lambda uri: None)


@given(before=counts, now=counts)
def test_exactly_the_findings_with_more_violations_than_known_fail(
    tmp_path_factory: pytest.TempPathFactory, before: dict[Any, int], now: dict[Any, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / NAME
    baseline = Baseline(str(Path.cwd())).updated(findings_of(before), checked_files([]))
    save_baseline(baseline, path)
    read = Baseline(baseline.root, load_baseline(path).files)
    assert read == baseline
    findings = findings_of(now)
    compared = read.compare(findings, checked_files(findings))
    expected = {key for key, number in now.items() if number > before.get(key, 0)}
    assert {((f.uri, f.field), f.code) for f in compared.new} == expected
    assert {((f.uri, f.field), f.code) for f in compared.known} == now.keys() - expected
    fixed = {((f.uri, f.field), f.code): f.num_left for f in compared.fixed}
    assert fixed == {key: now.get(key, 0) for key, number in before.items() if now.get(key, 0) < number}


def test_notes_are_never_recorded(folder: Path) -> None:
    note = Finding("DC101", "a.npy", None, 1, 1, severity=Severity.INFO)
    baseline = Baseline(str(folder)).updated([note], checked_files([note]))
    assert baseline.files == {}
    assert baseline.compare([note], checked_files([note])).new == (note,)
