"""What users get wrong at the command line and in Python: each answer says what was expected, and none is a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.cli.app import main
from datacheck.errors import DatacheckError

PIPELINE = "version: 1\nschema: s.yaml\ninputs: {train: data}\noutput: {path: out}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    pq.write_table(pa.table({"x": [1.0, 2.0]}), "data/a.parquet")
    Path("s.yaml").write_text("version: 1\nfields: {x: {}}\n")
    Path("p.yaml").write_text(PIPELINE)
    Path("text.yaml").write_text(PIPELINE.replace("{path: out}", "out"))
    Path("format.yaml").write_text(PIPELINE.replace("path: out", "path: out, format: parqet"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (
            "scan s.yaml",
            "'s.yaml' is a YAML file, not data; give a schema to --schema, and a pipeline to 'datacheck run'",
        ),
        ("scan data --schema data", "data: is a folder; expected a YAML file"),
        ("scan data --schema p.yaml", "p.yaml: is a pipeline, not a schema"),
        ("run s.yaml", "s.yaml: is a schema, not a pipeline; check data with it: 'datacheck scan PATH --schema FILE'"),
        ("run data", "data: is a folder; expected a YAML file"),
        ("requeue data p.yaml", "data: is a folder; expected a YAML file"),
        ("run text.yaml", "text.yaml: output: expected a mapping, got 'out'; write {path: out}"),
        ("run format.yaml", "format.yaml: output: unknown output format 'parqet'; did you mean 'parquet'?"),
        ("rows data --where nann", "unknown code 'nann'; did you mean 'nan'?"),
        ("diff a.json b.json", "a.json: no such file; write one with 'datacheck scan --format json -o FILE'"),
        ("diff data data", "data: is a folder; expected a report of datacheck"),
        ("scan data --shema s.yaml", "unknown option '--shema'; did you mean '--schema'?"),
        ("--verison", "unknown option '--verison'; did you mean '--version'?"),
        ("-v", "unknown option '-v'; did you mean '-V'?"),
        ("fit p.yaml", "statistics.json: no statistics, because no rule of p.yaml learns from data"),
        ("watch data --once", "data has no step of a training run yet; Guard(..., run_dir='data') writes them"),
    ],
)
def test_a_mistake_at_the_command_line_has_an_answer(
    arguments: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments.split())
    shown = capsys.readouterr()
    assert answer in shown.out + shown.err


def test_dashes_make_no_option_like_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", "data", "--progress"]) == 2
    assert "unknown option '--progress'\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: datacheck.run({"inputs": "data"}), "pipeline: expected the path of a YAML file, got dict"),
        (lambda: datacheck.scan("data", workers="two"), "workers: expected 1 or more, got 'two'"),
        (lambda: datacheck.scan([{"x": 1}]), "got a list of records; pass pyarrow.Table.from_pylist"),
        (
            lambda: datacheck.Schema(fields={"x": {}}).save("no/s.yaml"),
            "cannot be written: .*; create the folder first",
        ),
        (lambda: datacheck.scan(np.ones(2), "data"), "data: is a folder; expected a YAML file"),
    ],
)
def test_a_mistake_in_python_has_an_answer(call: Any, answer: str) -> None:
    with pytest.raises(DatacheckError, match=answer):
        call()
