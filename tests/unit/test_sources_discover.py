"""From paths to files: folders, globs, hive partitions, links, pointers and names that are nearly right."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import inspect, read_batches

from datacheck.errors import SourceError, UsageError
from datacheck.formats import known_suffixes, plugin_formats
from datacheck.sources import InputFile, ReadOptions, expand_inputs, get_source, source_for

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

HIVE = ["data/year=2020/month=1/x.parquet", "data/year=2020/month=__HIVE_DEFAULT_PARTITION__/x.parquet"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files of many names."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "data/b.npy",
        "data/a.parquet",
        "data/README.md",
        "data/_SUCCESS",
        "data/_metadata.parquet",
        "data/.hidden.npy",
        "data/.cache/x.npy",
        "data/_tmp/x.npy",
        *HIVE,
        "data/deep/er/x.CSV",
        "data/weights.bin",
        "other/z.npz",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def uris(*paths: str) -> list[str]:
    return [file.uri for file in expand_inputs(paths)]


def test_a_folder_is_every_known_file_below_it_in_order(tree: Path) -> None:
    assert uris("data") == [
        "data/a.parquet",
        "data/b.npy",
        "data/deep/er/x.CSV",
        *HIVE,
    ]


@pytest.mark.parametrize("written", ["data", "data/", "./data", "{tree}/data"])
def test_a_file_is_named_as_the_user_wrote_the_folder(tree: Path, written: str) -> None:
    folder = written.format(tree=tree)
    assert uris(folder)[0] == f"{folder.rstrip('/')}/a.parquet"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/*.npy", ["data/b.npy"]),
        ("data/?.npy", ["data/b.npy"]),
        ("data/[ab].*", ["data/a.parquet", "data/b.npy"]),
        ("*/z.np*", ["other/z.npz"]),
        ("**/*.npz", ["other/z.npz"]),
        ("data/**/x.C*", ["data/deep/er/x.CSV"]),
        ("data/year=*/*/x.parquet", HIVE),
        ("data/year=*", HIVE),
        ("other/*", ["other/z.npz"]),
        ("data/*", None),
        ("data/**", None),
        ("data/*.bin", ["data/weights.bin"]),
        ("data/.h*", ["data/.hidden.npy"]),
        ("data/_t*/x.npy", ["data/_tmp/x.npy"]),
    ],
)
def test_a_glob_is_what_it_matches(tree: Path, pattern: str, expected: list[str] | None) -> None:
    assert uris(pattern) == (uris("data") if expected is None else expected)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tree: Path) -> None:
    (tree / "a[1].npy").write_bytes(b"x")
    assert uris("a[1].npy") == ["a[1].npy"]


def test_a_file_named_twice_is_read_once(tree: Path) -> None:
    assert uris("data/b.npy", "data", "./data/b.npy")[:2] == ["data/b.npy", "data/a.parquet"]
    assert len(uris("data/b.npy", "data", "./data/b.npy")) == 5


def test_a_file_that_is_named_is_taken_whatever_its_name(tree: Path) -> None:
    assert uris("data/README.md", "data/_metadata.parquet") == ["data/README.md", "data/_metadata.parquet"]


def test_links_that_lead_back_are_not_followed(tree: Path) -> None:
    (tree / "data" / "self").symlink_to(tree / "data")
    (tree / "data" / "up").symlink_to("..")
    (tree / "data" / "deep" / "loop").symlink_to(tree / "data" / "deep")
    (tree / "data" / "elsewhere").symlink_to(tree / "other")
    assert "data/elsewhere/z.npz" in uris("data")
    assert len(uris("data")) == 6
    assert len(uris("data/*")) == 6
    assert len(uris("data/**")) == 6
    assert uris("**/*.npz") == ["other/z.npz"]


def test_a_link_to_nothing_is_an_input_that_cannot_be_opened(tree: Path) -> None:
    (tree / "other" / "gone.npy").symlink_to("nowhere")
    assert uris("other") == ["other/gone.npy", "other/z.npz"]
    with pytest.raises(SourceError, match="link to a file that does not exist") as caught:
        source_for("other/gone.npy")
    assert caught.value.code == "DC902"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dta", r"dta: no such file or folder; did you mean 'data'\?"),
        ("data/b.np", r"data/b.np: no such file or folder; did you mean 'b.npy'\?"),
        ("dat/b.npy", r"dat/b.npy: no such file or folder; did you mean 'data'\?"),
        ("-", "standard input cannot be read"),
        ("data/*.xyz", r"data/\*.xyz: no file matches this pattern"),
        ("dat/*.npy", r"dat/\*.npy: no file matches this pattern; did you mean 'data'\?"),
        ("gcs://bucket/key.parquet", "unknown scheme; did you mean 'gs://'"),
        ("", "name a file, a folder or a glob"),
        ("a\0b", "name a file, a folder or a glob"),
        ("loop/x.npy", "cannot be looked up .Too many levels of symbolic links"),
        ("empty", "the folder has no file of a known format; known suffixes: .*[.]parquet .* and [0-9]+ more$"),
    ],
)
def test_a_path_that_stands_for_nothing_is_a_usage_error(tree: Path, path: str, message: str) -> None:
    (tree / "empty").mkdir()
    (tree / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=message):
        expand_inputs([path])


def test_folders_of_a_hive_layout_are_columns_of_a_table(tmp_path: Path) -> None:
    for year in ("2020", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / f"year={year}" / "place=a%2Fb"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1.0, 2.0]}), folder / "part.parquet")
    files = expand_inputs([tmp_path], ReadOptions(dtypes=(("year", "int32"),)))
    found = []
    for file in files:
        for batch in read_batches(source_for(file.uri).inspect(file.uri, file.options)):
            assert batch.names == ["x", "year", "place"]
            assert batch.columns[1].data.type == pa.int32()
            found.append((batch.columns[1].data.to_pylist(), batch.columns[2].data.to_pylist()))
    assert found == [([2020, 2020], ["a/b", "a/b"]), ([None, None], ["a/b", "a/b"])]


def test_a_hive_folder_that_is_no_value_of_its_dtype_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "year=soon"
    folder.mkdir()
    pq.write_table(pa.table({"x": [1.0]}), folder / "part.parquet")
    (file,) = expand_inputs(tmp_path, ReadOptions(dtypes=(("year", "int32"),)))
    with pytest.raises(SourceError, match="'year=soon' does not have a value of type int32"):
        read_batches(source_for(file.uri).inspect(file.uri, file.options))


def test_a_column_of_the_file_stands_above_one_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "x=7"
    folder.mkdir()
    pq.write_table(pa.table({"x": [1.0]}), folder / "part.parquet")
    (file,) = expand_inputs(tmp_path)
    (batch,) = read_batches(source_for(file.uri).inspect(file.uri, file.options))
    assert batch.names == ["x"]
    assert batch.columns[0].data.to_pylist() == [1.0]


def test_arrays_have_no_hive_columns(tmp_path: Path) -> None:
    folder = tmp_path / "year=2020"
    folder.mkdir()
    np.save(folder / "x.npy", np.zeros(3))
    assert expand_inputs(tmp_path) == [InputFile(str(folder / "x.npy"))]


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".pt", ".csv", ".safetensors"])
def test_a_git_lfs_pointer_is_no_data(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text(LFS_POINTER)
    with pytest.raises(SourceError, match="git lfs pull") as caught:
        inspect(path)
    assert caught.value.code == "DC906"


def test_a_dvc_pointer_stands_for_the_data_that_is_not_there(tree: Path) -> None:
    pointer = "outs:\n- md5: abc\n  path: y.npy\n"
    (tree / "other" / "y.npy.dvc").write_text(pointer)
    (tree / "other" / "z.npz.dvc").write_text(pointer)
    assert uris("other") == ["other/y.npy.dvc", "other/z.npz"]
    for uri in ("other/y.npy.dvc", "other/y.npy"):
        assert uris(uri) == [uri]
        with pytest.raises(SourceError, match=r"dvc pull other/y.npy.dvc") as caught:
            source_for(uri)
        assert caught.value.code == "DC906"


def test_a_git_annex_link_says_how_to_get_the_data(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.symlink_to(".git/annex/objects/aa/bb/KEY")
    with pytest.raises(SourceError, match="git annex get") as caught:
        inspect(path)
    assert caught.value.code == "DC906"


class OtherSource:
    """A source of another package."""

    format = "other"
    suffixes = (".other",)


@pytest.fixture
def other_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    point = EntryPoint("other", f"{__name__}:OtherSource", "datacheck.sources")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == point.group else [])
    for cached in (plugin_formats, get_source):
        cached.cache_clear()
    yield
    for cached in (plugin_formats, get_source):
        cached.cache_clear()


@pytest.mark.usefixtures("other_package")
def test_a_source_of_another_package_is_found_by_its_suffix(tree: Path) -> None:
    (tree / "other" / "x.other").write_bytes(b"x")
    assert uris("other") == ["other/x.other", "other/z.npz"]
    assert isinstance(source_for("other/x.other"), OtherSource)
    assert ".other" in known_suffixes()
