"""Pipeline files: what is read from them, and errors that name the file, the place and the nearest word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datacheck import load_pipeline
from datacheck.errors import PipelineError, SchemaError

GOOD: dict[str, Any] = {
    "inputs": {"train": "in/train", "val": ["in/a.npy", "/abs/b.npy"]},
    "clean": [{"action": "drop_row", "codes": "DC104"}],
    "output": {"path": "out"},
}


def written(folder: Path, record: Any) -> Path:
    path = folder / "p.yaml"
    path.write_text(record if isinstance(record, str) else yaml.safe_dump(record, sort_keys=False))
    return path


def changed(**sections: Any) -> dict[str, Any]:
    return {**GOOD, **sections}


def test_a_pipeline_is_read_with_paths_from_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    written(tmp_path / "jobs", changed(output={"path": "../out", "format": "csv", "delimiter": ";"}))
    monkeypatch.chdir(tmp_path)
    pipeline = load_pipeline("jobs/p.yaml")
    assert pipeline.name == "p"
    assert pipeline.inputs == {"train": ("jobs/in/train",), "val": ("jobs/in/a.npy", "/abs/b.npy")}
    assert pipeline.output == "out"
    assert (pipeline.format, dict(pipeline.format_options)) == ("csv", {"delimiter": ";"})
    assert pipeline.fit == "train"
    assert len(pipeline.plan.rules) == 1
    assert pipeline.plan.otherwise == "quarantine"


@pytest.mark.parametrize(
    ("inputs", "fit"),
    [("in", "data"), (["a", "b"], "data"), ({"only": "in"}, "only"), ({"a": "x", "b": "y"}, None)],
)
def test_what_is_learned_from_is_the_only_split_or_train(inputs: Any, fit: str | None, tmp_path: Path) -> None:
    assert load_pipeline(written(tmp_path, changed(inputs=inputs))).fit == fit


def test_a_schema_is_in_its_own_file_or_in_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text("fields: {x: {ge: 0}}")
    by_file = load_pipeline(written(tmp_path, changed(schema="schema.yaml")))
    inline = load_pipeline(written(tmp_path, changed(schema={"fields": {"x": {"ge": 0}}})))
    assert by_file.schema == inline.schema
    assert by_file.schema.fields["x"].ge == 0


def test_arrays_that_belong_together_are_named_by_field(tmp_path: Path) -> None:
    pipeline = load_pipeline(written(tmp_path, changed(inputs={"train": {"x": "x.npy", "y": "y.npy"}})))
    files = pipeline.inputs["train"]
    assert isinstance(files, dict)
    assert {field: Path(path).name for field, path in files.items()} == {"x": "x.npy", "y": "y.npy"}


def test_how_inputs_are_read_can_be_said(tmp_path: Path) -> None:
    reading = {"csv_delimiter": ";", "csv_null_values": ["-"], "max_members": 3}
    options = load_pipeline(written(tmp_path, changed(reading=reading))).reading
    assert (options.csv_delimiter, options.csv_null_values, options.max_members) == (";", ("-",), 3)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(inptus={}), r"p\.yaml: inptus: .*did you mean 'inputs'\?"),
        (changed(version=2), r"p\.yaml: version: unsupported version 2, expected 1"),
        (changed(inputs={}), r"p\.yaml: inputs: is empty; add a split"),
        (changed(inputs={"train": []}), r"p\.yaml: inputs\.train: is empty"),
        (changed(inputs={"train": ""}), r"p\.yaml: inputs\.train: is empty"),
        (changed(inputs={"quarantine": "x"}), r"p\.yaml: inputs\.quarantine: .*is not a valid folder name"),
        (changed(inputs={"../up": "x"}), r"p\.yaml: inputs.*is not a valid folder name"),
        (changed(inputs={".datacheck": "x"}), r"p\.yaml: inputs.*is not a valid folder name"),
        (changed(inputs={"train": 3}), r"p\.yaml: inputs\.train"),
        (changed(fit="trian"), r"p\.yaml: fit: unknown split 'trian'; did you mean 'train'\?"),
        (changed(otherwise="ignore"), r"p\.yaml: otherwise"),
        (changed(output={}), r"p\.yaml: output\.path"),
        (changed(output={"path": 3}), r"p\.yaml: output\.path"),
        (changed(output="out"), r"p\.yaml: output"),
        (changed(clean=[{"action": "drop_rows"}]), r"p\.yaml: clean\[0\]\.action: .*did you mean 'drop_row'\?"),
        (changed(clean=[{"codes": "DC101"}]), r"p\.yaml: clean\[0\]\.action: is required"),
        (changed(clean=[{"action": "impute"}]), r"p\.yaml: clean\[0\]\.strategy"),
        (changed(clean=[{"action": "drop_row", "code": "x"}]), r"p\.yaml: clean\[0\]\.code: .*did you mean 'codes'\?"),
        (changed(clean=[{"action": "drop_row", "codes": "DC999"}]), r"p\.yaml: clean\[0\]\.codes"),
        (changed(clean={"action": "drop_row"}), r"p\.yaml: clean"),
        (changed(reading={"csv_delimeter": ";"}), r"p\.yaml: reading\.csv_delimeter: .*did you mean 'csv_delimiter'\?"),
        ({"output": {"path": "out"}}, r"p\.yaml: inputs"),
        ([1, 2], r"p\.yaml"),
        ("inputs: [", r"p\.yaml"),
        ("", r"p\.yaml"),
        ("inputs: x\ninputs: y\noutput: {path: z}\n", r"p\.yaml.*inputs"),
        ("inputs: !!python/object/apply:os.system ['touch executed']\n", r"p\.yaml"),
    ],
)
def test_a_mistake_is_reported_with_its_location(
    record: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError) as caught:
        load_pipeline(written(tmp_path, record))
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("schema", ["missing.yaml", {"fields": {"x": {"gee": 0}}}, {"feilds": {}}, 3])
def test_a_mistake_in_the_schema_is_one_of_the_schema(schema: Any, tmp_path: Path) -> None:
    with pytest.raises((SchemaError, PipelineError), match=r"schema|missing\.yaml"):
        load_pipeline(written(tmp_path, changed(schema=schema)))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00", np.random.default_rng(0).bytes(300)])
def test_a_binary_file_is_not_a_pipeline(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"p\.yaml"):
        load_pipeline(tmp_path / "p.yaml")
