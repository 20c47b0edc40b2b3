"""Text files of people and of datacheck may lie in a bucket, too: schemas, pipelines, configuration, baselines, lists."""

from __future__ import annotations

import gc
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from job_files import run_command
from s3_server import Bucket

import datacheck
from datacheck.errors import PipelineError, SchemaError, UsageError
from datacheck.torch import SafeDataset
from datacheck.torch.loader import quarantine_writer

SCHEMA = "version: 1\nfields:\n  x: {dtype: float64, le: 10}\n"
PIPELINE = """\
version: 1
schema: ../schemas/s.yaml
inputs: {train: ../data}
clean:
  - {action: impute, strategy: mean, fields: x, codes: DC101}
output: {path: ../out}
"""


@pytest.fixture
def project(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """A bucket with data, a schema and a pipeline beside them, and an empty folder to be in."""
    content = io.BytesIO()
    pq.write_table(pa.table({"x": [1.0, np.nan, 3.0, 99.0]}), content)
    bucket.put("data/x.parquet", content.getvalue())
    bucket.put("schemas/s.yaml", SCHEMA.encode())
    bucket.put("pipelines/p.yaml", PIPELINE.encode())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return bucket


def datacheck_says(*arguments: str, code: int = 0) -> str:
    done = run_command(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_schema_a_configuration_and_a_report(project: Bucket) -> None:
    uri = project.uri
    report = ["--format", "json", "-o", f"{uri}/reports/r.json"]
    datacheck_says("scan", f"{uri}/data", "--schema", f"{uri}/schemas/s.yaml", *report, code=1)
    assert {one["code"] for one in json.loads(project.get("reports/r.json"))["findings"]} == {"DC101", "DC202"}
    project.put("conf/datacheck.yaml", b"paths: [../data]\nschema: ../schemas/s.yaml\nignore: [DC202]\n")
    said = datacheck_says("scan", "--config", f"{uri}/conf/datacheck.yaml", code=1)
    assert "DC101" in said
    assert "DC202" not in said
    assert datacheck_says("schema", "check", f"{uri}/schemas/s.yaml", f"{uri}/pipelines/p.yaml").count("pipeline") >= 1
    assert "le: 10" in datacheck_says("schema", "show", f"{uri}/schemas/s.yaml")


def test_a_local_configuration_names_uris(project: Bucket) -> None:
    Path("datacheck.yaml").write_text(f"paths: ['{project.uri}/data']\nschema: {project.uri}/schemas/s.yaml\n")
    assert "DC202" in datacheck_says("scan", code=1)


def test_a_baseline(project: Bucket) -> None:
    baseline, data = f"{project.uri}/known.json", f"{project.uri}/data"
    datacheck_says("baseline", "write", data, "-o", baseline)
    assert list(json.loads(project.get("known.json"))["files"]) == [f"{data}/x.parquet"]
    datacheck_says("scan", data, "--baseline", baseline)
    content = io.BytesIO()
    pq.write_table(pa.table({"x": [np.nan, np.nan, 3.0, 99.0]}), content)
    project.put("data/x.parquet", content.getvalue())
    assert "DC101" in datacheck_says("scan", data, "--baseline", baseline, code=1)


def test_a_pipeline_with_paths_from_its_own_place(project: Bucket) -> None:
    assert datacheck.run(f"{project.uri}/pipelines/p.yaml").output == f"{project.uri}/out"
    assert "out/manifest.json" in project.keys
    learned = f"{project.uri}/statistics.json"
    datacheck_says("fit", f"{project.uri}/pipelines/p.yaml", "-o", learned)
    cleaned = f"{project.uri}/cleaned"
    datacheck.clean(f"{project.uri}/pipelines/p.yaml", learned, f"{project.uri}/data", cleaned)
    assert "cleaned/manifest.json" in project.keys


def test_what_is_inferred_is_written_once(project: Bucket) -> None:
    uri = f"{project.uri}/schemas/new.yaml"
    datacheck_says("schema", "infer", f"{project.uri}/data", "-o", uri)
    assert datacheck.load_schema(uri).fields.keys() == {"x"}
    assert "already exists" in datacheck_says("schema", "infer", f"{project.uri}/data", "-o", uri, code=2)
    datacheck_says("init", f"{project.uri}/data", "-o", f"{project.uri}/project")
    assert {"project/schema.yaml", "project/pipeline.yaml", "project/datacheck.yaml"} <= set(project.keys)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{0}/gone.yaml", "no such file"),
        ("ftp://host/s.yaml", "unknown scheme"),
        ("s3://gone-bucket/s.yaml", "not exist"),
    ],
)
def test_a_document_that_cannot_be_read(uri: str, message: str, project: Bucket) -> None:
    with pytest.raises(SchemaError, match=message):
        datacheck.load_schema(uri.format(project.uri))
    with pytest.raises(PipelineError, match=message):
        datacheck.run(uri.format(project.uri))


class Numbers(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, bad: set[int]) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float("nan") if index in self.bad else float(index))


@pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")
def test_quarantine_lists_of_several_runs_are_joined(project: Bucket) -> None:
    quarantine = f"{project.uri}/known-bad.json"

    def read_all(bad: set[int]) -> SafeDataset[Any]:
        dataset = SafeDataset(Numbers(bad), quarantine=quarantine, fingerprint="numbers", max_bad_fraction=0.5)
        assert len(list(torch.utils.data.DataLoader(dataset, 1, num_workers=1))) <= 20
        dataset.report()
        return dataset

    first = SafeDataset(Numbers({3}), quarantine=quarantine, fingerprint="numbers", max_bad_fraction=0.5)
    read_all({7, 9})
    assert [one["index"] for one in json.loads(project.get("known-bad.json"))["samples"]] == [7, 9]
    assert len([first[index] for index in range(20)]) == 20
    first.report()
    assert [one["index"] for one in json.loads(project.get("known-bad.json"))["samples"]] == [3, 7, 9]
    assert read_all(set()).report().bad_indices == (3, 7, 9)
    with pytest.raises(UsageError, match=r"known-bad\.json: belongs to another dataset"):
        SafeDataset(Numbers(set()), quarantine=quarantine, fingerprint="others", max_bad_fraction=0.5)
    # What is collected is written later, and the bucket must be there then.
    del first
    gc.collect()
    quarantine_writer._save_waiting()
