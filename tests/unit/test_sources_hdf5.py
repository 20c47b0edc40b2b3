"""HDF5 and NetCDF 4: every dataset by its path, whatever its layout, and nothing that lies in another file."""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline
from source_files import inspect, join, read_batches, shrink_units

import datacheck
from datacheck import ReadOptions
from datacheck.findings import Severity
from datacheck.sources import get_source, named_arrays
from datacheck.sources.base import fingerprint_of
from datacheck.sources.hdf5 import _Hdf5File, _known

h5py = pytest.importorskip("h5py")
NAN = np.nan


def write(path: Path, fill: Callable[[Any], None], **options: Any) -> Path:
    with h5py.File(path, "w", **options) as file:
        fill(file)
    return path


def found(path: Path, **options: Any) -> list[tuple[str, str | None, int]]:
    return [(one.code, one.field, one.num_violations) for one in datacheck.scan(path, **options).findings]


@pytest.mark.parametrize("seed", range(4))
def test_counts_rows_and_indices_equal_numpy_for_every_layout(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    dtype = random.choice(["<f4", ">f8", "<f2"])
    shape = (int(random.integers(1, 300)), int(random.integers(1, 9)))
    values = random.standard_normal(shape).astype(dtype)
    values[random.random(shape) < 0.02] = NAN
    values[random.random(shape) < 0.01] = np.inf

    def fill(file: Any) -> None:
        file["plain"] = values
        for filters in ({}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf", "fletcher32": True}):
            chunks = tuple(int(random.integers(1, length + 1)) for length in shape)
            file.create_dataset(f"group/{filters.get('compression')}", data=values, chunks=chunks, **filters)

    path = write(tmp_path / "a.h5", fill)
    expected = {}
    for code, mask in (("DC101", np.isnan(values)), ("DC102", np.isposinf(values))):
        where = [tuple(map(int, one)) for one in np.argwhere(mask)[:5]]
        expected[code] = (int(mask.sum()), int(mask.any(axis=1).sum()), where)
    whole = datacheck.scan(path, workers=1)
    shrink_units(monkeypatch, 512, 256)
    for report in (whole, datacheck.scan(path, workers=3)):
        assert report.num_rows == shape[0]
        for one in report.findings:
            places = [(example.row, *example.index) for example in one.examples]
            assert (one.num_violations, one.num_rows, places) == expected[one.code]
        assert len(report.findings) == 4 * sum(count > 0 for count, _, _ in expected.values())


def test_groups_of_unequal_lengths_are_read_one_by_one(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for number in range(3):
            file[f"data/demo_{number}/actions"] = np.full((5 + number, 2), NAN if number == 1 else 0.0)
            file[f"data/demo_{number}/done"] = np.zeros(5 + number, bool)

    path = write(tmp_path / "robot.hdf5", fill)
    assert found(path) == [("DC101", "data/demo_1/actions", 12)]
    assert datacheck.scan(path).num_rows == 2 * (5 + 6 + 7)


def test_values_of_every_kind_are_seen(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["scalar"] = np.float32(np.inf)
        file["complex"] = np.array([1, complex(0, NAN)])
        file["compound"] = np.array([(1, [NAN, 2])], [("a", "i4"), ("b", "f4", 2)])
        file["text"] = ["a", "b"]
        file["bad_text"] = np.array([b"ok", b"M\xfcnchen"], h5py.string_dtype())
        lists = file.create_dataset("lists", (3,), h5py.vlen_dtype("f4"))
        lists[0], lists[2] = [1, 2], [NAN]
        file["empty"] = h5py.Empty("f4")
        file.create_dataset("enum", data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1}))
        file["reference"] = np.array([file["text"].ref], h5py.ref_dtype)

    assert found(write(tmp_path / "a.h5", fill)) == [
        ("DC005", "reference", 1),
        ("DC208", "bad_text", 1),
        ("DC101", "complex", 1),
        ("DC101", "compound.b", 1),
        ("DC101", "lists[]", 1),
        ("DC102", "scalar", 1),
    ]


# Chunks that are not there, or damaged


def test_chunks_that_were_never_written_are_one_finding_and_not_nan(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        nan = file.create_dataset("nan", (1000, 2), "f4", chunks=(100, 2), fillvalue=NAN)
        nan[300:600] = 1
        nan[350, 1] = NAN
        zero = file.create_dataset("zero", (1000, 2), "f4", chunks=(100, 1))
        zero[:500, 0] = 1
        file.create_dataset("never", (10,), "f4")

    path = write(tmp_path / "a.h5", fill)
    findings = sorted(datacheck.scan(path).findings, key=lambda one: (one.field, one.code))
    assert [(one.field, one.code, one.num_violations, one.num_checked, one.severity) for one in findings] == [
        ("nan", "DC009", 7, 10, Severity.ERROR),
        ("nan", "DC101", 1, 600, Severity.ERROR),
        ("never", "DC009", 1, 1, Severity.WARNING),
        ("zero", "DC009", 15, 20, Severity.WARNING),
    ]
    assert "fill value nan there, from rows 0, 600 on" in findings[0].message
    assert findings[1].examples[0].row == 350
    # NaN that a schema allows is what a writer of all NaN leaves out.
    for name in ("nan", "n*"):
        allowed = datacheck.scan(path, {"fields": {name: {"allow_nan": True}}}).findings
        assert [(one.code, one.severity) for one in allowed if one.field == "nan"] == [("DC009", Severity.WARNING)]


def damage(path: Path, name: str, chunk: int) -> None:
    with h5py.File(path, "r") as file:
        info = file[name].id.get_chunk_info(chunk)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 5 : info.byte_offset + 25] = b"\xff" * 20
    path.write_bytes(content)


def test_a_damaged_chunk_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((1000, 4))
    values[950, 2] = NAN

    def fill(file: Any) -> None:
        file.create_dataset("x", data=values, chunks=(100, 4), compression="gzip")
        file["y"] = np.arange(1000.0)

    path = write(tmp_path / "a.h5", fill)
    damage(path, "x", 3)
    report = datacheck.scan(path)
    assert [(one.code, one.field) for one in report.findings] == [("DC101", "x"), ("DC901", "x")]
    assert "1 chunk of 'x' cannot be read, from row 300 on" in report.findings[1].message
    assert report.num_rows == 1000
    assert report.findings[0].num_checked == 3600


def test_a_chunk_too_large_for_a_batch_is_decoded_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read decodes it from its beginning."""
    values = np.arange(10_000.0)
    values[9000] = NAN
    path = write(
        tmp_path / "a.h5", lambda file: file.create_dataset("x", data=values, chunks=(10_000,), compression="gzip")
    )
    monkeypatch.setattr(named_arrays, "MAX_CHUNK_BYTES", 1 << 15)
    monkeypatch.setattr(named_arrays, "_BATCH_BYTES", 1 << 8)
    batches = read_batches(inspect(path))
    assert [batch.num_rows for batch in batches] == [4096, 4096, 1808]


# Other files


def test_nothing_in_other_files_is_ever_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("0123456789" * 4)
    write(tmp_path / "other.h5", lambda file: file.create_dataset("x", data=[NAN, 1.0]))

    def fill(file: Any) -> None:
        file.create_dataset("raw", (10,), "f4", external=[(str(secret), 0, 40)])
        file["beside"] = h5py.ExternalLink("other.h5", "/x")
        file["outside"] = h5py.ExternalLink("/etc/other.h5", "/x\n")
        file["soft"] = h5py.SoftLink("/outside")
        file["cycle/self"] = h5py.SoftLink("/cycle")
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource("missing.h5", "x", (2,))
        file.create_virtual_dataset("view", layout)
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (2,))
        file.create_virtual_dataset("view_beside", layout)
        file["mine"] = [1.0]

    path = write(tmp_path / "a.h5", fill)
    report = datacheck.scan(path)
    assert {(one.code, one.field) for one in report.findings} == {
        ("DC005", "raw"),
        ("DC008", "beside"),
        ("DC005", "outside"),
        ("DC005", "view"),
        ("DC008", "view_beside"),
    }
    assert all("\n" not in one.message and "never opened" in one.message for one in report.findings)


# Hostile and unusual files


def test_bombs_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.create_dataset("nothing", (10**6, 10**6), "f8", chunks=(1000, 1000))
        file.create_dataset(
            "one_chunk", data=np.zeros(1 << 23), chunks=(1 << 23,), compression="gzip", compression_opts=9
        )
        file["ok"] = [1.0, NAN]

    path = write(tmp_path / "a.h5", fill)
    findings = datacheck.scan(path, options=ReadOptions(max_expansion_ratio=100)).findings
    assert [(one.code, one.field) for one in findings] == [
        ("DC005", "nothing"),
        ("DC005", "one_chunk"),
        ("DC101", "ok"),
    ]
    assert "8,000,000,000,000 bytes, of which 0 are stored" in findings[0].message


def test_a_missing_filter_and_a_missing_library_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)

    def fill(file: Any) -> None:
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((10,)), properties)
        h5py.Dataset(file["x"].id).id.write_direct_chunk((0,), bytes(40))

    path = write(tmp_path / "a.h5", fill)
    (finding,) = [one for one in datacheck.scan(path).findings if one.code == "DC005"]
    assert "pip install hdf5plugin" in finding.message
    monkeypatch.setattr("datacheck.jobs.executors.isolated.may_crash", lambda _: False)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (finding,) = datacheck.scan(path).findings
    assert "pip install 'datacheck-ml[hdf5]'" in finding.message


def test_values_that_stand_for_missing_ones_are_nulls(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["t"] = np.float32([1, 9.96921e36, NAN])
        file["t"].attrs["_FillValue"] = np.float32(9.96921e36)
        file["n"] = np.int16([1, -999, 3])
        file["n"].attrs["missing_value"] = np.int16(-999)
        file["lat"] = np.zeros(0)
        file["lat"].attrs.update({"CLASS": np.bytes_("DIMENSION_SCALE"), "NAME": np.bytes_(
            "This is a netCDF dimension but not a netCDF variable.         3")})  # fmt: skip

    path = write(tmp_path / "a.nc", fill)
    assert found(path) == [("DC104", "n", 1), ("DC101", "t", 1), ("DC104", "t", 1)]


def test_files_of_older_formats_are_called_by_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    (finding,) = datacheck.scan(tmp_path / "a.nc").findings
    assert "NetCDF 3; convert it to NetCDF 4" in finding.message


def test_a_file_that_a_writer_has_locked_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", lambda file: file.create_dataset("x", data=[1.0, NAN]))
    with path.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert found(path) == [("DC101", "x", 1)]


# Jobs


def test_each_file_can_be_one_sample(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", lambda file: file.create_dataset("obs/x", data=[[1.0, NAN], [2.0, 3.0]]))
    (finding,) = datacheck.scan(tmp_path / "a.h5", options=ReadOptions(rows="file")).findings
    assert (finding.field, finding.examples[0].row, finding.examples[0].index) == ("obs/x", None, (0, 1))


def test_a_run_writes_a_new_file_with_the_same_bytes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    values[17, 1], values[400, 0] = NAN, np.inf

    def fill(file: Any) -> None:
        file.create_dataset("train/x", data=values, chunks=(50, 3), compression="gzip")
        file["train/y"] = np.arange(500)

    write(tmp_path / "a.h5", fill)
    shrink_units(monkeypatch)
    contents = []
    for output in ("one", "two"):
        (tmp_path / f"{output}.yaml").write_text(
            f"version: 1\ninputs: {{train: a.h5}}\nclean: [{{codes: [DC101, DC102], action: drop_row}}]\n"
            f"output: {{path: {output}}}\n"
        )
        assert datacheck.run(tmp_path / f"{output}.yaml").ok
        (written,) = (tmp_path / output / "train").glob("*.hdf5")
        contents.append(written.read_bytes())
        with h5py.File(written) as file:
            kept = np.delete(np.arange(500), [17, 400])
            np.testing.assert_array_equal(file["train/x"][:], values[kept])
            np.testing.assert_array_equal(file["train/y"][:], kept)
    assert contents[0] == contents[1]


def test_the_names_of_an_enum_stay_and_are_no_warning_where_rows_are_quarantined(tmp_path: Path) -> None:
    names = {"up": 0, "down": 1}

    def fill(file: Any) -> None:
        file["x"] = [1.0, NAN, 3.0]
        file["e"] = np.array([0, 1, 1], h5py.enum_dtype(names, "i1"))

    write(tmp_path / "a.h5", fill)
    assert datacheck.run(write_pipeline(tmp_path, "a.h5")).totals()["num_quarantined"] == 1
    (written,) = (tmp_path / "out").rglob("*.hdf5")
    with h5py.File(written) as file:
        assert file["e"][:].tolist() == [0, 1]
        assert h5py.check_enum_dtype(file["e"].dtype) == names


@pytest.mark.torch
def test_it_is_opened_as_a_dataset(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from datacheck.torch import SafeDataset, open_dataset
    from datacheck.torch.loader.errors import BadSampleWarning

    def fill(file: Any) -> None:
        file["x"], file["y"] = np.float32([1, NAN, 3]), [1, 2, 3]

    dataset = SafeDataset(open_dataset(write(tmp_path / "a.h5", fill)), max_bad_fraction=1.0)
    with pytest.warns(BadSampleWarning, match="a.h5, row 1"):
        assert [float(sample["y"]) for sample in dataset] in ([1, 1, 3], [1, 3, 3])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i4"])
@pytest.mark.parametrize("order", ["forwards", "backwards", "interleaved", "behind a user block", "with a hole"])
def test_chunks_are_read_as_the_library_reads_them(
    order: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks without filters are mapped where they follow each other in the file."""
    random = np.random.default_rng(5)
    values = random.standard_normal((107, 3, 2)).astype(dtype)
    if values.dtype.kind == "f":
        values[random.random(values.shape) < 0.05] = np.nan
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", userblock_size=512 if order == "behind a user block" else 0) as file:
        made = file.create_dataset("x", values.shape, dtype, chunks=(10, 3, 2))
        other = file.create_dataset("y", (107,), "<f4", chunks=(4,))
        starts = list(range(0, 107, 10))
        for start in reversed(starts) if order == "backwards" else starts:
            if order == "with a hole" and start == 50:
                values[50:60] = 0
                continue
            made[start : start + 10] = values[start : start + 10]
            if order == "interleaved" and start % 20:
                other[start : start + 10] = 1
        other[:] = 1
    shrink_units(monkeypatch, 400, 200)
    units = get_source("hdf5").inspect(str(path), ReadOptions(columns=("x",))).units
    read = [batch for unit in units for batch in get_source("hdf5").read(unit) if batch.columns]
    np.testing.assert_array_equal(np.concatenate([batch.columns[0].data for batch in read]), values)
    assert sum(batch.num_rows for batch in read) == 107


def test_a_file_is_walked_once_for_all_its_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_units(monkeypatch)
    path = tmp_path / "x.h5"
    table = {name: np.arange(3000.0) for name in ("x", "group/y", "group/inner/z")}
    with h5py.File(path, "w") as file:
        for name, values in table.items():
            file.create_dataset(name, data=values, chunks=(100,))
    walks = Counter[str]()
    visit_all = _Hdf5File._visit_all
    monkeypatch.setattr(_Hdf5File, "_visit_all", lambda file: (walks.update(["walk"]), visit_all(file))[1])
    for short in (None, np.arange(7.0)):
        if short is not None:
            with h5py.File(path, "a") as file:
                file["short"] = table["short"] = short
        walks.clear()
        info = inspect(path)
        assert len(info.units) > 10
        read = join(read_batches(info))
        assert {name: values.tolist() for name, values in read.items()} == {
            name: values.tolist() for name, values in table.items()
        }
        # The first unit also says what lies in other files.
        assert walks["walk"] == 2
        _known.cache_clear()
        again = sum(batch.num_rows for batch in get_source("hdf5").read(info.units[-1]))  # as in another process
        assert (again, walks["walk"]) == (info.units[-1].num_rows, 3)


def test_objects_are_visited_as_h5py_visits_them(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for number in range(20):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w", libver=["earliest", "latest"][number % 2]) as file:
            groups = [file]
            for step in range(30):
                group, name = (
                    groups[random.integers(len(groups))],
                    "abcdefgh"[random.integers(8)] * int(random.integers(1, 3)),
                )
                if name in group:
                    continue
                what = random.integers(5)
                if what == 0:
                    groups.append(group.create_group(name))
                elif what == 1:
                    group[name] = groups[random.integers(len(groups))]
                elif what == 2:
                    group[name] = h5py.SoftLink("/a")
                else:
                    group[name] = np.full(step + 1, float(step))
        with h5py.File(path, "r") as file:
            expected: list[str] = []
            file.visititems(lambda name, item, to=expected: to.append(name) if isinstance(item, h5py.Dataset) else None)
        with _Hdf5File(str(path), fingerprint_of(str(path)), ReadOptions()) as opened:
            assert [one.name for one in opened.arrays] == expected


def test_deep_groups_take_no_longer_than_flat_ones_and_have_a_limit(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file
        for _ in range(250):
            group = group.create_group("g")
            group["x"] = np.array([1.0, NAN])
    path = str(tmp_path / "x.h5")
    started = time.process_time()
    with _Hdf5File(path, fingerprint_of(path), ReadOptions()) as opened:
        assert len(opened.arrays) == 250
    assert time.process_time() - started < 5
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file[f"{'g/' * 250}{'g/' * 20}x"] = np.ones(2)
    (finding,) = datacheck.scan(tmp_path / "x.h5").findings
    assert (finding.code, "nested more than 256 deep" in finding.message) == ("DC901", True)


@pytest.mark.parametrize(
    ("dtype", "fill"), [("f4", 9.969209968386869e36), ("f8", 9.969209968386869e36), ("i4", -2147483647)]
)
def test_what_netcdf_fills_a_variable_with_is_null(dtype: str, fill: float, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        values = file.create_dataset("x", (6,), dtype, fillvalue=fill)
        values[:4] = 1
        file["y"] = np.full(6, fill, dtype)
    found = [(one.code, one.field, one.num_violations) for one in datacheck.scan(tmp_path / "a.nc").findings]
    assert found == [("DC104", "x", 2)]
