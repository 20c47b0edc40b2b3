"""Files of arrays that are one sample each: ``rows: file``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from job_files import contents, manifest_of, run_command, write_pipeline, write_table

import datacheck
from datacheck.errors import PipelineError, UsageError

FILE = datacheck.ReadOptions(rows="file")
SCHEMA = {"fields": {None: {"dtype": "float32", "shape": [3, 4, 4]}}}
SHAPE = (3, 4, 4)


def image(number: int) -> Any:
    return np.random.default_rng(number).standard_normal(SHAPE).astype(np.float32)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen images in two folders with the same names: one with NaN, one with an infinity, one of another shape."""
    monkeypatch.chdir(tmp_path)
    for number in range(16):
        path = tmp_path / "images" / ("cat" if number % 2 else "dog") / f"{number // 2}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        x = image(number)
        if number == 3:
            x[0, 1, 2] = np.nan
        if number == 4:
            x[2, 3, 3] = np.inf
        np.save(path, x[:2] if number == 7 else x)
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({"version": 1, **SCHEMA}))
    return tmp_path


def messages(report: Any) -> list[str]:
    return [f"{finding.code} {finding.message}" for finding in report.findings]


def test_a_scan_counts_files_and_names_the_index_inside_them(images: Path) -> None:
    report = datacheck.scan("images", "schema.yaml", options=FILE)
    assert (report.num_files, report.num_rows) == (16, 16)
    assert messages(report) == [
        "DC101 1 of 48 values are NaN in the array (images/cat/1.npy, index [0, 1, 2])",
        "DC004 the array has the wrong shape: (2, 4, 4), expected (3, 4, 4) (images/cat/3.npy)",
        "DC102 1 of 48 values are +inf in the array (images/dog/2.npy, index [2, 3, 3])",
    ]
    assert [example.row for finding in report.findings for example in finding.examples] == [None, None]


def test_the_index_of_the_first_of_several_values_is_shown(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 2), np.nan, np.float32))
    (finding,) = datacheck.scan(tmp_path / "x.npy", options=FILE).findings
    assert finding.message == f"4 of 4 values are NaN in the array ({tmp_path}/x.npy, index [0, 0], …)"


def test_without_rows_the_first_axis_is_the_rows(images: Path) -> None:
    assert datacheck.scan("images").num_rows == 47
    assert datacheck.scan("images", options=datacheck.ReadOptions(rows="first-axis")).num_rows == 47


def test_a_full_shape_over_several_files_must_say_what_the_rows_are(images: Path) -> None:
    pytest.importorskip("scipy")
    with pytest.raises(
        UsageError, match=r"each of them one sample, .* shape \[3, 4, 4\] has no leading null"
    ) as raised:
        datacheck.scan("images", "schema.yaml")
    for how in ("--rows file", "rows: file", "ReadOptions(rows='file')", "{path: images/, rows: file}"):
        assert how in str(raised.value)
    assert datacheck.scan("images", "schema.yaml", options=datacheck.ReadOptions(rows="first-axis")).num_rows == 47
    assert datacheck.scan("images/cat/0.npy", "schema.yaml").ok
    with_null = {"fields": {None: {"shape": [None, 4, 4]}}}
    assert datacheck.scan("images", datacheck.Schema.model_validate(with_null)).num_rows == 47
    with pytest.raises(UsageError, match="one sample"):
        datacheck.check("images", schema="schema.yaml", cache=False)
    with pytest.raises(UsageError, match="one sample"):
        datacheck.compare("images/cat", "images/dog", schema="schema.yaml")
    with pytest.raises(UsageError, match="one sample"):
        datacheck.run(write_pipeline(images, "images", schema=SCHEMA))


def test_the_command_and_the_configuration_take_rows(images: Path) -> None:
    done = run_command("scan", "images", "--schema", "schema.yaml", "--rows", "file", "--format", "json", "--no-cache")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["num_rows"] == 16
    (images / "datacheck.yaml").write_text("rows: file\nschema: schema.yaml\ncache: false\n")
    assert datacheck.check("images").num_rows == 16
    (images / "datacheck.yaml").write_text("rows: folder\n")
    done = run_command("scan", "images")
    assert (done.returncode, "rows" in done.stderr) == (2, True)


def test_a_cached_verdict_belongs_to_the_rows_it_was_given_for(images: Path) -> None:
    cache = str(images / "cache")
    assert datacheck.check("images", rows="first-axis", cache_dir=cache).num_rows == 47
    assert datacheck.check("images", rows="file", cache_dir=cache).num_rows == 16
    assert datacheck.check("images", rows="file", cache_dir=cache).num_rows == 16


def test_an_inferred_schema_has_the_shape_of_a_sample_and_passes(images: Path) -> None:
    done = run_command("schema", "infer", "images/dog", "--rows", "file", "--permissive", "-o", "inferred.yaml")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((images / "inferred.yaml").read_text())["fields"][None]["shape"] == [3, 4, 4]
    assert datacheck.scan("images/dog", "inferred.yaml", options=FILE).ok


def test_compare_finds_whole_files_that_leaked(images: Path) -> None:
    (images / "test").mkdir()
    np.save(images / "test" / "a.npy", image(2))
    np.save(images / "test" / "b.npy", np.concatenate([image(0)[:1], image(2)[1:]]))
    report = datacheck.compare("images", "test", drift=False, options=FILE)
    (leak,) = [finding for finding in report.findings if finding.code == "DC310"]
    assert (leak.num_violations, leak.num_checked, leak.uri) == (1, 1, "test/a.npy")
    assert report.num_rows == 18
    done = run_command("compare", "images", "test", "--rows", "file", "--no-drift")
    assert "test/a.npy" in done.stdout
    assert "test/b.npy" not in done.stdout


RULES = [
    {"action": "impute", "strategy": "constant", "value": 0.0, "codes": ["DC101"]},
    {"action": "quarantine", "codes": ["DC004"]},
    {"action": "drop_row", "codes": ["DC102"]},
]


def sample_pipeline(folder: Path, **sections: Any) -> Path:
    return write_pipeline(folder, {"train": {"path": "images/", "rows": "file"}}, RULES, schema=SCHEMA, **sections)


def test_a_run_acts_on_whole_files(images: Path) -> None:
    report = datacheck.run(sample_pipeline(images))
    out = images / "out"
    assert report.ok
    assert report.totals() == {"num_read": 16, "num_kept": 14, "num_dropped": 1, "num_quarantined": 1}
    kept = set(contents(out / "train"))
    assert kept == {f"{kind}/{n}.npy" for kind in ("cat", "dog") for n in range(8)} - {"cat/3.npy", "dog/2.npy"}
    assert all(np.load(out / "train" / name).shape == SHAPE for name in kept)
    repaired = image(3)
    repaired[0, 1, 2] = 0
    np.testing.assert_array_equal(np.load(out / "train" / "cat" / "1.npy"), repaired)
    # What was not repaired has the same bytes, and what was quarantined is a copy.
    assert (out / "train/dog/0.npy").read_bytes() == (images / "images/dog/0.npy").read_bytes()
    assert contents(out / "quarantine") == {"train/cat/3.npy": (images / "images/cat/3.npy").read_bytes()}
    ledger = pq.read_table(out / "ledger" / "train").select(["row", "file", "verdict", "codes", "reason"])
    assert ledger.to_pylist() == [
        {
            "row": 3,
            "file": "images/cat/3.npy",
            "verdict": "quarantined",
            "codes": ["DC004"],
            "reason": "DC004: (2, 4, 4), expected (3, 4, 4)",
        },
        {"row": 10, "file": "images/dog/2.npy", "verdict": "dropped", "codes": ["DC102"], "reason": "DC102"},
    ]


def test_a_second_run_has_nothing_to_do_and_another_meaning_of_rows_is_another_run(images: Path) -> None:
    path = sample_pipeline(images)
    datacheck.run(path)
    before = contents(images / "out")
    assert not datacheck.run(path).is_new
    datacheck.run(path, workers=1, overwrite=True)
    assert contents(images / "out") == before
    path.write_text(path.read_text().replace("rows: file", "rows: first-axis"))
    with pytest.raises(datacheck.errors.OutputError, match="rows"):
        datacheck.run(path)


def test_open_dataset_reads_samples_from_files_and_from_what_a_run_published(images: Path) -> None:
    torch = pytest.importorskip("torch")
    from datacheck.torch import open_dataset

    raw = open_dataset("images/dog", rows="file")
    assert (len(raw), raw[2].shape, raw.origin(2).uri) == (8, torch.Size(SHAPE), "images/dog/2.npy")
    datacheck.run(sample_pipeline(images))
    published = open_dataset("out", split="train")
    assert (len(published), published[5].shape) == (14, torch.Size(SHAPE))
    assert {published.origin(index).uri for index in range(14)} == {
        f"images/{name}" for name in contents(images / "out" / "train")
    }


def test_statistics_and_new_data_keep_the_meaning_of_rows(images: Path) -> None:
    rules = [{"action": "impute", "strategy": "mean", "codes": ["DC1"]}, {"action": "drop_row", "codes": ["DC004"]}]
    path = write_pipeline(images, {"train": {"path": ["images/cat"], "rows": "file"}}, rules, schema=SCHEMA)
    statistics = datacheck.fit(path)
    assert statistics.num_rows == 7
    report = datacheck.clean(path, statistics, "images/dog", "cleaned")
    assert report.totals()["num_kept"] == 8
    assert np.load(images / "cleaned" / "data" / "2.npy").shape == SHAPE


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_the_arrays_of_a_file_are_the_fields_of_one_sample(suffix: str, images: Path) -> None:
    for number in range(4):
        x = image(number)
        x[0, 0, 0] = np.nan if number == 1 else 0
        save_sample(images / "samples" / f"{number}{suffix}", {"x": x, "label": np.array(number)})
    schema = {
        "fields": {"x": {"shape": [3, 4, 4], "dtype": "float32"}, "label": {"dtype": "int64", "lt": 3, "shape": []}}
    }
    report = datacheck.scan("samples", datacheck.Schema.model_validate(schema), options=FILE)
    assert [(one.code, one.uri) for one in report.findings] == [
        ("DC101", f"samples/1{suffix}"),
        ("DC204", f"samples/3{suffix}"),
    ]
    datacheck.run(write_pipeline(images, {"path": "samples", "rows": "file"}, schema=schema))
    written = ".safetensors" if suffix == ".pt" else suffix
    assert set(contents(images / "out" / "data")) == {f"0{written}", f"2{written}"}
    assert set(contents(images / "out" / "quarantine")) == {f"data/1{suffix}", f"data/3{suffix}"}
    found = load_sample(images / "out" / "data" / f"2{written}")
    assert (found["x"].shape, found["label"].shape, int(found["label"])) == (SHAPE, (), 2)


def save_sample(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    else:
        torch = pytest.importorskip("torch")
        # A label is often a plain integer, which must not get lost.
        torch.save({"x": torch.from_numpy(arrays["x"]), "label": int(arrays["label"])}, path)


def load_sample(path: Path) -> Any:
    if path.suffix == ".npz":
        return np.load(path)
    return pytest.importorskip("safetensors.numpy").load_file(path)


def test_a_table_is_not_a_sample(images: Path) -> None:
    write_table(images / "images" / "labels.parquet", {"y": [1, 2]})
    report = datacheck.scan("images", options=FILE)
    (finding,) = [one for one in report.findings if one.code == "DC901"]
    assert "a parquet file is a table of many rows" in finding.message
    run = datacheck.run(sample_pipeline(images))
    assert not run.ok
    assert run.totals()["num_read"] == 16


def test_files_of_several_paths_keep_what_tells_them_apart(images: Path) -> None:
    inputs = {"train": {"path": ["images/cat", "images/dog/0.npy"], "rows": "file"}}
    datacheck.run(write_pipeline(images, inputs))
    assert {"cat/0.npy", "dog/0.npy"} <= set(contents(images / "out" / "train"))


def test_a_large_or_empty_or_scalar_sample_is_one_row(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros((5, 1 << 20, 4), np.float32))
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(image(1)))
    report = datacheck.scan(tmp_path, options=FILE)
    assert (report.ok, report.num_rows) == (True, 3)
    datacheck.run(write_pipeline(tmp_path, {"path": str(tmp_path / "*.npy"), "rows": "file"}))
    written = {name: np.load(tmp_path / "out" / "data" / name) for name in ("large.npy", "scalar.npy", "fortran.npy")}
    assert [one.shape for one in written.values()] == [(5, 1 << 20, 4), (), SHAPE]
    np.testing.assert_array_equal(written["fortran.npy"], image(1))


@pytest.mark.parametrize(
    ("inputs", "place"),
    [
        ({"train": {"path": "", "rows": "file"}}, "inputs.train"),
        ({"train": {"path": [], "rows": "file"}}, "inputs.train"),
    ],
)
def test_an_input_without_a_path_is_an_error(inputs: Any, place: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=place):
        datacheck.run(write_pipeline(tmp_path, inputs))


def test_fields_called_path_and_rows_are_still_aligned_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4.0))
    np.save(tmp_path / "b.npy", np.arange(4.0))
    inputs = {"train": {"path": "a.npy", "rows": "b.npy"}}
    assert datacheck.run(write_pipeline(tmp_path, inputs)).totals()["num_kept"] == 4


def test_the_ledger_is_listed_in_the_manifest(images: Path) -> None:
    datacheck.run(sample_pipeline(images))
    listed = [part for one in manifest_of(images / "out")["inputs"] for part in one["outputs"]]
    (ledger,) = [part for part in listed if part["kind"] == "ledger"]
    assert (ledger["path"], ledger["num_rows"], ledger["num_read"]) == ("ledger/train/samples.parquet", 2, 16)
    assert pq.read_metadata(images / "out" / ledger["path"]).num_rows == 2
