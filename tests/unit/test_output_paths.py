"""Names of parts, and outputs that would overwrite inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacheck.errors import OutputError
from datacheck.publishing.output_paths import check_output_outside_inputs, safe_part_name


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "../../x.csv",
        "..",
        "/",
        "",
        "a\0b",
        "é" * 300,
        "x" * 5000,
        "a b;rm -rf.npy",
        ".hidden",
        "\udcff",
        "C:\\x",
    ],
)
def test_a_part_name_is_a_plain_file_name(uri):
    name = safe_part_name(uri, 12)
    assert name.isascii()
    assert name == Path(name).name
    assert not name.startswith(".")
    assert len(name) < 120
    assert name.endswith("-00012")
    assert name == safe_part_name(uri, 12)


def test_part_names_differ_by_input_and_unit():
    uris = ["a/x.csv", "b/x.csv", "a/x.npy", "a/x", "A/x.csv", "x.csv", "a//x.csv"]
    assert len({safe_part_name(uri, unit) for uri in uris for unit in (0, 1, 10, 100_000)}) == 28


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw", "elsewhere"):
        Path(folder).mkdir(parents=True)
    Path("data/raw/a.csv").write_text("a")
    Path("elsewhere/hard.csv").hardlink_to("data/raw/a.csv")
    Path("elsewhere/soft.csv").symlink_to("../data/raw/a.csv")
    Path("elsewhere/folder").symlink_to("../data")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "source", "message"),
    [
        ("data/raw/a.csv", "data/raw/a.csv", "is the input"),
        ("data/../data/raw/./a.csv", "data/raw/a.csv", "is the input"),
        ("elsewhere/hard.csv", "data/raw/a.csv", "is the input"),
        ("elsewhere/soft.csv", "data/raw/a.csv", "is the input"),
        ("data/raw/a.csv", "elsewhere/soft.csv", "is the input"),
        ("data", "data", "is the input"),
        ("data/out", "data", "lies inside the input"),
        ("data/new/deeper/out", "data", "lies inside the input"),
        ("elsewhere/folder/new/out", "data", "lies inside the input"),
        ("data/out", "elsewhere/folder", "lies inside the input"),
        ("data", "data/raw/a.csv", "contains the input"),
        ("elsewhere/folder/raw", "data/raw/a.csv", "contains the input"),
        (".", "data", "contains the input"),
    ],
)
def test_an_output_that_would_overwrite_or_contain_an_input_is_refused(output, source, message, tree):
    for place in (output, tree / output):
        with pytest.raises(OutputError, match=message):
            check_output_outside_inputs(place, ["elsewhere/nothing", source])


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("out", "data"),
        ("data-out", "data"),
        ("data/out", "data/raw"),
        ("data/raw/b.csv", "data/raw/a.csv"),
        ("out", "missing.csv"),
    ],
)
def test_an_output_beside_the_inputs_is_accepted(output, source, tree):
    check_output_outside_inputs(output, [source])
