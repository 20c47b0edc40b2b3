"""What holds for every source: the rows of the file, each once and in order, whatever the units."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from memory_storage import ROOT, MemoryStorage
from source_files import (
    FORMATS,
    Format,
    Table,
    inspect,
    join,
    make_table,
    parameters,
    read_batches,
    read_table,
    shrink_units,
)

import datacheck
from datacheck.errors import SourceError, UsageError
from datacheck.formats import BUILT_IN, known_suffixes
from datacheck.sources import ReadOptions, format_of, get_source, source_for

Save: TypeAlias = Callable[..., str]
#: Suffix -> name of its format.
SUFFIXES = {suffix: record.name for record in BUILT_IN.values() for suffix in record.suffixes}
every_format = pytest.mark.parametrize("form", parameters())


@pytest.fixture(params=["local", "memory"])
def save(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryStorage) -> Save:
    """Writes a table in a format to a local file or to a storage without paths and maps; gives its URI."""

    def write(form: Format, table: Table, name: str = "") -> str:
        path = tmp_path / (name or f"data{form.suffix}")
        written = path.with_name(f"written{form.suffix}")
        form.write(written, table)
        if request.param == "local":
            written.rename(path)
            return str(path)
        uri = f"{ROOT}folder/{path.name}"
        memory.files[uri] = written.read_bytes()
        return uri

    return write


@every_format
@pytest.mark.parametrize("num_rows", [1, 2, 1000, 4097])
def test_rows_equal_what_was_written(form: Format, num_rows: int, save: Save) -> None:
    table = make_table(num_rows)
    read = read_table(save(form, table))
    assert set(read) == set(table)
    for name, values in table.items():
        np.testing.assert_array_equal(read[name], values)


@every_format
def test_rows_and_their_numbers_do_not_depend_on_how_a_file_is_split(
    form: Format, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(3000)
    uri = save(form, table)
    shrink_units(monkeypatch)
    info = inspect(uri)
    batches = read_batches(info)
    assert len(info.units) > 3 or not form.splits
    assert len(batches) > 3
    assert [unit.index for unit in info.units] == list(range(len(info.units)))
    if info.num_rows is not None:
        assert sum(unit.num_rows or 0 for unit in info.units) == info.num_rows == 3000
    row = 0
    for batch in batches:
        assert batch.file_rows(np.arange(batch.num_rows)).tolist() == list(range(row, row + batch.num_rows))
        assert all(len(column) == batch.num_rows for column in batch.columns)
        row += batch.num_rows
    for name, values in table.items():
        np.testing.assert_array_equal(join(batches)[name], values)


@every_format
def test_units_depend_on_the_file_alone_and_travel(form: Format, save: Save) -> None:
    uri = save(form, make_table())
    info = inspect(uri)
    assert inspect(uri) == info
    assert pickle.loads(pickle.dumps(info)) == info
    unit = pickle.loads(pickle.dumps(info.units[0]))
    assert join(list(get_source(unit.format).read(unit)))["count"][0] == 0


@every_format
def test_no_rows_still_give_the_names(form: Format, save: Save) -> None:
    if ".json" in form.suffix or ".tfrecord" in form.suffix:
        pytest.skip("the keys are those of the records")
    table = make_table(0)
    batches = read_batches(inspect(save(form, table)))
    assert sum(batch.num_rows for batch in batches) == 0
    assert {name for batch in batches for name in batch.names} == set(table)


@every_format
def test_only_wanted_columns_are_read(form: Format, save: Save) -> None:
    table = make_table()
    read = read_table(save(form, table), ReadOptions(columns=("count", "absent")))
    assert list(read) == ["count"]
    np.testing.assert_array_equal(read["count"], table["count"])


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@every_format
@pytest.mark.parametrize("change", [_append, _touch, _replace, Path.unlink])
@pytest.mark.parametrize("after", [0, 1])
def test_a_file_that_changes_while_it_is_read_is_not_believed(
    form: Format, change: object, after: int, tmp_path: Path
) -> None:
    path = tmp_path / f"data{form.suffix}"
    form.write(path, make_table())
    batches = source_for(str(path)).read(inspect(path).units[0])
    for _ in range(after):
        next(batches)
    assert callable(change)
    change(path)
    with pytest.raises(SourceError) as caught:
        list(batches)
    assert caught.value.code == "DC908"


@every_format
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("content", [b"another", None])
def test_an_object_that_changes_while_it_is_read_is_not_believed(
    form: Format, after: int, content: bytes | None, tmp_path: Path, memory: MemoryStorage
) -> None:
    form.write(tmp_path / f"data{form.suffix}", make_table())
    memory.upload(tmp_path, f"{ROOT}a")
    uri = f"{ROOT}a/data{form.suffix}"
    batches = source_for(uri).read(inspect(uri).units[0])
    for _ in range(after):
        next(batches)
    del memory.files[uri]
    if content is not None:
        memory.files[uri] = content
    with pytest.raises(SourceError) as caught:
        list(batches)
    assert caught.value.code == "DC908"


@every_format
def test_a_file_under_the_name_of_another_format_is_refused(form: Format, save: Save) -> None:
    for suffix, named in SUFFIXES.items():
        if BUILT_IN[named].is_sample or BUILT_IN[named].shares_suffix:
            continue  # what is no image is a finding about its row, and a .bin is what its first bytes say
        packed = [next((one for one in (".gz", ".zst") if name.endswith(one)), "") for name in (suffix, form.suffix)]
        is_same = SUFFIXES[form.suffix] == named or (SUFFIXES[form.suffix] == "jsonl" and named == "json")
        # A list over several lines is a text of one column.
        if (is_same and packed[0] == packed[1]) or (form.suffix == ".json" and suffix in (".csv", ".tsv")):
            continue
        if form.suffix == ".tfrecord.gz" and (named == "jsonl" or (is_same and not packed[0])):
            continue  # each line is a finding; compressed records need not be named so
        if named == "mds":
            continue  # without an index beside it, it is refused whatever it holds
        uri = save(form, make_table(), f"wrong{suffix}")
        with pytest.raises(SourceError) as caught:
            read_table(uri)
        is_any_text = (
            form.suffix.startswith((".csv", ".json", ".jsonl.", ".tfrecord."))
            and form.suffix != ".jsonl"
            and named == "txt"
        )
        assert caught.value.code == ("DC909" if is_any_text else "DC901"), suffix


@every_format
def test_a_format_is_known_by_its_first_bytes_where_the_name_says_nothing(form: Format, save: Save) -> None:
    nameless = save(form, make_table(), "data.bin")
    if form.suffix.startswith(".csv") or form.suffix in (".json", ".jsonl.zst", ".tfrecord.gz"):
        with pytest.raises(SourceError) as caught:
            format_of(nameless)
        assert caught.value.code == "DC909"
    else:
        assert format_of(nameless).name == SUFFIXES[form.suffix]


@every_format
def test_reading_a_part_gives_that_part(form: Format, save: Save) -> None:
    uri = save(form, make_table())
    unit = inspect(uri).units[0]
    if not form.splits or form.suffix in (".parquet", ".jsonl", ".tfrecord"):
        pytest.skip("read from its start, by row groups, or by ranges of bytes")
    part = replace(unit, row_start=333, num_rows=57)
    batches = list(source_for(uri).read(part))
    np.testing.assert_array_equal(join(batches)["count"], np.arange(333, 390))
    assert batches[0].row_start == 333


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3000,), (300, 40), ()])
def test_an_array_of_any_layout_is_read_without_maps(
    shape: tuple[int, ...], order: Any, memory: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.asarray(np.random.default_rng(0).standard_normal(shape), order=order)
    np.save(tmp_path / "x.npy", array)
    memory.upload(tmp_path, f"{ROOT}a")
    monkeypatch.setattr("datacheck.sources.arrays.MAP_FROM_BYTES", 100)
    np.testing.assert_array_equal(read_table(f"{ROOT}a/x.npy")[None], array)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_source_has_the_name_of_its_record(name: str) -> None:
    assert get_source(name).format == name
    assert set(BUILT_IN[name].suffixes) <= set(known_suffixes())


def test_an_unknown_format_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'parket'; did you mean 'parquet'"):
        get_source("parket")


def test_every_format_of_the_table_is_tried_here() -> None:
    # Files that are no tables of numbers, and folders, have tests of their own.
    others = {"npy", "txt", "image", "audio", "tar", "tokens", "megatron", "zarr", "mds", "lance", "exr"}
    others |= {"nifti", "dicom"}
    assert {SUFFIXES[form.suffix] for form in FORMATS.values()} | others >= set(SUFFIXES.values())


@pytest.mark.parametrize(
    ("name", "head", "title"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("a.orc", b"ORC", "ORC"),
        ("a.parquet", b"PAR1", "Parquet"),
        ("a.arrow", b"ARROW1\0\0", "Arrow"),
        ("a.npz", b"PK\x03\x04", "zip"),
        ("a.avro", b"Obj\x01", "Avro"),
    ],
)
def test_a_damaged_file_is_said_to_be_of_its_format(name: str, head: bytes, title: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(head + bytes(range(1, 200)))
    [finding] = datacheck.scan(tmp_path / name).findings
    assert finding.code == "DC901"
    assert title.lower() in finding.detail.lower()
