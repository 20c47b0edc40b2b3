"""A format that another package registers gets everything that a built-in format has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from job_files import manifest_of, write_pipeline
from record_format import VEC_MAGIC, rec_bytes
from source_files import shrink_units

import datacheck
from datacheck import formats
from datacheck.formats import find_format, format_of_name, plugin_formats
from datacheck.publishing.named_file import write_named
from datacheck.sinks import sink_formats
from datacheck.sources.detect import get_source
from datacheck.storage import change_detection

NAN = np.nan


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs a package whose entry points name the two formats of ``record_format``."""
    site = tmp_path_factory.mktemp("site")
    install(site, "1.0")
    monkeypatch.syspath_prepend(str(site))
    yield site
    forget()


def install(site: Path, version: str) -> None:
    folder = site / "recordformat.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: recordformat\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text("[datacheck.sources]\nrec = record_format:REC\nvec = record_format:VEC\n")
    forget()


def forget() -> None:
    importlib.invalidate_caches()
    for cached in (plugin_formats, get_source):
        cached.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "day=3"
    folder.mkdir(parents=True)
    (folder / "a.rec").write_bytes(rec_bytes({"x": np.array([1.0, NAN, 3.0]), "y": np.array([1.0, 2.0, np.inf])}))
    (folder / "b.rec").write_bytes(rec_bytes({"x": np.arange(3.0), "y": np.arange(3.0)}))
    return tmp_path / "data"


def test_it_is_found_by_suffix_and_by_sink() -> None:
    record = format_of_name("some/A.REC")
    assert record is not None
    assert (record.name, record.provider) == ("rec", "recordformat 1.0")
    assert {"rec", "vec"} <= set(sink_formats())
    assert find_format("absent") is None


def test_a_scan_finds_it_in_folders_with_partitions(data: Path) -> None:
    report = datacheck.scan(data)
    assert [(one.code, one.field, one.num_violations) for one in report.findings] == [
        ("DC101", "x", 1),
        ("DC102", "y", 1),
    ]
    dtypes = {"x": "float64", "y": "float64", "day": "int64"}
    fields = {name: {"dtype": dtype} for name, dtype in dtypes.items()}
    (data / "schema.yaml").write_text(
        yaml.safe_dump({"version": 1, "fields": {**fields, "day": {"dtype": "int64", "ge": 4}}})
    )
    bounds = [one for one in datacheck.scan(data, data / "schema.yaml").findings if one.field == "day"]
    assert sum(one.num_violations for one in bounds) == 6


def test_a_file_of_another_format_under_its_name_is_refused(data: Path) -> None:
    (data / "c.rec").write_bytes(b"something else")
    assert [one.code for one in datacheck.scan(data / "c.rec").findings] == ["DC901"]


def test_infer_and_compare_read_it(data: Path) -> None:
    pytest.importorskip("scipy")
    schema = datacheck.infer(data / "day=3/b.rec")
    assert {"x", "y"} <= set(map(str, schema.fields))
    assert "DC310" in {one.code for one in datacheck.compare(data / "day=3/b.rec", data / "day=3/b.rec").findings}


def test_a_run_cleans_it_into_its_own_format(data: Path, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, {"train": ["data"]}, [{"codes": ["DC101", "DC102"], "action": "drop_row"}])
    report = datacheck.run(pipeline)
    assert report.ok
    parts = [part["path"] for account in manifest_of(tmp_path / "out")["inputs"] for part in account["outputs"]]
    rows = sorted(part for part in parts if part.endswith(".rec"))
    assert len(rows) == 2
    assert datacheck.scan(tmp_path / "out" / rows[0]).ok


def test_array_files_are_aligned_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(2000.0)
    values[7] = NAN
    (tmp_path / "x.vec").write_bytes(VEC_MAGIC + values.tobytes())
    (tmp_path / "y.vec").write_bytes(VEC_MAGIC + np.arange(2000.0).tobytes())
    shrink_units(monkeypatch)
    pipeline = write_pipeline(
        tmp_path,
        {"train": {"x": "x.vec", "y": "y.vec"}},
        [{"codes": ["DC101"], "action": "drop_row"}],
        output={"path": "out", "format": "vec"},
    )
    assert datacheck.run(pipeline).ok
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "train").iterdir()}
    assert sorted(written) == ["x.vec", "y.vec"]
    for content in written.values():
        np.testing.assert_array_equal(np.frombuffer(content[8:]), np.delete(np.arange(2000.0), 7))


def test_the_gate_remembers_its_verdicts_until_the_package_changes(
    data: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_detection, "_FINE_TICK", 0)
    counts = [datacheck.check(data).num_unchanged for _ in range(2)]
    assert counts[1] == 2
    install(package, "2.0")
    assert [datacheck.check(data).num_unchanged for _ in range(2)] == [0, 2]


def test_a_report_never_replaces_its_files(data: Path) -> None:
    with pytest.raises(datacheck.DatacheckError, match="data"):
        write_named(data / "day=3" / "a.rec", b"report")


def test_a_source_class_alone_is_a_format_without_remembered_verdicts(package: Path) -> None:
    points = package / "recordformat.dist-info" / "entry_points.txt"
    points.write_text(
        "[datacheck.sources]\nold = test_new_format:OldSource\n[datacheck.sinks]\nold = record_format:RecSink\n"
    )
    forget()
    sys.modules.setdefault("test_new_format", sys.modules[__name__])
    record = formats.get_format("old")
    assert (record.suffixes, record.is_cacheable, record.sink) == ((".old",), False, "record_format:RecSink")


class OldSource:
    format = "old"
    suffixes = (".old",)
