"""``run`` over arrays: rows stay aligned over files and names, and what is not repaired keeps its bits, dtype and order."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import contents, ledger_of, manifest_of, quarantine_of, write_pipeline
from source_files import shrink_units

import datacheck
from datacheck.errors import OutputError

needs_safetensors = pytest.mark.skipif(importlib.util.find_spec("safetensors") is None, reason="needs safetensors")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")

ROWS = 200


def make_windows(dtype: str = "<f4") -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(3)
    windows = random.normal(0, 1, (ROWS, 4, 3)).astype(dtype)
    targets = np.arange(ROWS, dtype=np.int64)
    windows.reshape(-1)[random.choice(windows.size, 60, replace=False)] = np.nan
    windows[::17, 1, 2] = np.inf
    return windows, targets


def is_gap(windows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.isnan(windows)


RULES = [
    {"action": "quarantine", "codes": "DC102"},
    {"action": "impute", "strategy": "mean", "fields": "windows", "per_feature": True},
]


def expected(windows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The rows that stay, and the windows with each feature's mean in its gaps."""
    stays = ~np.isinf(windows).any((1, 2))
    kept = windows[stays].copy()
    for feature in range(windows.shape[2]):
        column = kept[..., feature]
        column[np.isnan(column)] = np.nanmean(column.astype(np.float64))
    return stays, kept


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("workers", [1, 4])
def test_windows_and_targets_stay_aligned(
    dtype: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, unit_bytes=4096)
    windows, targets = make_windows(dtype)
    np.save(tmp_path / "w.npy", np.asfortranarray(windows))
    np.save(tmp_path / "t.npy", targets)
    inputs = {"train": {"windows": "w.npy", "targets": "t.npy"}}
    report = datacheck.run(write_pipeline(tmp_path, inputs, RULES), workers=workers)
    stays, kept = expected(windows)
    cleaned = np.load(tmp_path / "out" / "train" / "windows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "train" / "targets.npy"), targets[stays])
    assert cleaned.dtype == windows.dtype
    np.testing.assert_array_equal(cleaned[~is_gap(windows[stays])], windows[stays][~is_gap(windows[stays])])
    np.testing.assert_allclose(cleaned, kept, rtol=1e-3 if dtype == "<f2" else 1e-6)
    assert [entry["row"] for entry in ledger_of(tmp_path / "out")] == np.flatnonzero(~stays).tolist()
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside["targets"].to_pylist() == targets[~stays].tolist()
    originals = np.stack([aside["windows"][row].to_numpy() for row in range(len(aside))])
    np.testing.assert_array_equal(originals, windows[~stays])
    (account,) = report.accounts
    assert account.files is not None
    assert account.files.keys() == {"windows", "targets"}


def write_npz(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def write_safetensors(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)


def read_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def write_torch(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    import torch

    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


@pytest.mark.parametrize(
    ("suffix", "write", "written"),
    [
        (".npz", write_npz, ".npz"),
        pytest.param(".safetensors", write_safetensors, ".safetensors", marks=needs_safetensors),
        pytest.param(".pt", write_torch, ".safetensors", marks=[needs_torch, needs_safetensors]),
    ],
)
def test_arrays_of_one_file_stay_aligned_and_are_written_as_one_file(
    suffix: str, write: Any, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch, unit_bytes=4096)
    windows, targets = make_windows()
    write(tmp_path / f"d{suffix}", {"windows": windows, "targets": targets})
    report = datacheck.run(write_pipeline(tmp_path, {"train": f"d{suffix}"}, RULES))
    assert report.ok
    stays, kept = expected(windows)
    path = tmp_path / "out" / "train" / f"d{written}"
    cleaned = read_safetensors(path) if written == ".safetensors" else np.load(path)
    np.testing.assert_array_equal(cleaned["targets"], targets[stays])
    np.testing.assert_allclose(cleaned["windows"], kept, rtol=1e-6)


def test_the_one_array_of_an_npy_can_be_called_what_the_schema_calls_it(tmp_path: Path) -> None:
    array = np.ones((6, 2), np.float32)
    array[1, 1], array[3, 0] = np.nan, 9
    np.save(tmp_path / "x.npy", array)
    schema = {"fields": {"emb": {"dtype": "float32", "shape": [None, 2], "le": 5}}}
    rules = [
        {"action": "drop_row", "fields": "emb", "codes": "DC101"},
        {"action": "clip", "fields": "emb", "codes": "DC202"},
    ]
    report = datacheck.run(write_pipeline(tmp_path, "x.npy", rules, schema=schema))
    assert report.totals() == {"num_read": 6, "num_kept": 5, "num_dropped": 1, "num_quarantined": 0}
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "data" / "x.npy")[:, 0], [1, 1, 5, 1, 1])


def test_a_field_can_be_dropped_and_an_indicator_added_beside_aligned_arrays(tmp_path: Path) -> None:
    windows, targets = make_windows()
    for name, array in (("w", windows), ("t", targets), ("extra", targets)):
        np.save(tmp_path / f"{name}.npy", array)
    inputs = {"train": {"windows": "w.npy", "targets": "t.npy", "extra": "extra.npy"}}
    rules = [{"action": "drop_field", "fields": "extra"}, RULES[0], {**RULES[1], "indicator": True}]
    datacheck.run(write_pipeline(tmp_path, inputs, rules))
    folder = tmp_path / "out" / "train"
    assert {path.name for path in folder.iterdir()} == {"windows.npy", "targets.npy", "windows_missing.npy"}
    stays = expected(windows)[0]
    np.testing.assert_array_equal(np.load(folder / "windows_missing.npy"), np.isnan(windows[stays]))


def test_aligned_arrays_of_which_no_row_stays_are_accounted_for(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.full((4, 2), np.nan))
    np.save(tmp_path / "t.npy", np.arange(4))
    report = datacheck.run(write_pipeline(tmp_path, {"train": {"windows": "w.npy", "targets": "t.npy"}}))
    assert report.totals() == {"num_read": 4, "num_kept": 0, "num_dropped": 0, "num_quarantined": 4}
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside["targets"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["../../outside", "a/b", "/etc/x", "..", ".hidden", "a\nb", "ü"])
def test_no_field_name_leads_out_of_the_output(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones(4))
    np.save(tmp_path / "t.npy", np.ones(4))
    (tmp_path / "job").mkdir()
    inputs = {"train": {name: "../w.npy", "targets": "../t.npy"}}
    before = {path for path in tmp_path.rglob("*") if "job" not in path.parts}
    datacheck.run(write_pipeline(tmp_path / "job", inputs))
    assert {path for path in tmp_path.rglob("*") if "job" not in path.parts} == before
    assert len(list((tmp_path / "job" / "out" / "train").glob("*.npy"))) == 2


def test_unequal_arrays_are_a_finding_and_the_rest_is_done(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((4, 2)))
    np.save(tmp_path / "t.npy", np.ones(3))
    np.save(tmp_path / "v.npy", np.ones(3))
    report = datacheck.run(
        write_pipeline(tmp_path, {"train": {"windows": "w.npy", "targets": "t.npy"}, "val": {"windows": "v.npy"}})
    )
    assert not report.ok
    assert [finding.code for finding in report.findings] == ["DC304"]
    assert [account.status for account in report.accounts] == ["unreadable", "cleaned"]


def test_inputs_of_one_name_are_written_under_names_of_their_own(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b", "c", "x-2")):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", np.full(3, number, np.float32))
    np.save(tmp_path / "a" / "x-2.npy", np.full(3, 9, np.float32))
    datacheck.run(write_pipeline(tmp_path, ["a", "b", "c", "x-2"]))
    named = {
        part["path"]: np.load(tmp_path / "out" / part["path"])[0]
        for account in manifest_of(tmp_path / "out")["inputs"]
        for part in account["outputs"]
    }
    assert sorted(named.values()) == [0, 1, 2, 3, 9]
    assert len(contents(tmp_path / "out" / "data")) == 5


@pytest.mark.parametrize("format_", ["parquet", "arrow", "csv", "npy", "npz", "safetensors"])
def test_an_output_can_be_of_another_format_than_its_input(format_: str, tmp_path: Path) -> None:
    if format_ == "safetensors" and importlib.util.find_spec("safetensors") is None:
        pytest.skip("needs safetensors")
    np.savez(tmp_path / "d.npz", x=np.array([1.0, np.nan, 3.0]), y=np.arange(3))
    datacheck.run(write_pipeline(tmp_path, "d.npz", output={"path": "out", "format": format_}))
    paths = [tmp_path / "out" / part["path"] for part in manifest_of(tmp_path / "out")["inputs"][0]["outputs"]]
    rows = [path for path in paths if path.parent.name == "data" and path.parent.parent.name == "out"]
    assert len(rows) == (2 if format_ == "npy" else 1)
    cleaned = datacheck.scan(tmp_path / "out" / "data")
    assert cleaned.ok
    assert cleaned.num_rows == 2 * len(rows)


def test_what_a_format_cannot_hold_is_an_error_that_names_one_that_can(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,name\n1,a\n")
    with pytest.raises(OutputError, match=r"'name' is string; .* parquet and arrow can hold it"):
        datacheck.run(write_pipeline(tmp_path, "t.csv", output={"path": "out", "format": "npy"}))
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_or_format_option_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x\n1\n")
    for output in ({"format": "parket"}, {"format": "parquet", "compresion": "zstd"}):
        with pytest.raises(datacheck.DatacheckError, match=r"did you mean '(parquet|compression)'"):
            datacheck.run(write_pipeline(tmp_path, "t.csv", output={"path": "out", **output}))
        assert not (tmp_path / "out").exists()
