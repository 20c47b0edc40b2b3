"""``--reading``: any key of the setting ``reading``, on the command line."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import run_command

MODEL = """
import pandera.pandas as pa

class Model(pa.DataFrameModel):
    x: int

    @pa.check("x")
    def rising(cls, x):
        return x.is_monotonic_increasing
"""


@pytest.mark.slow
def test_it_turns_checksums_off_and_a_cached_verdict_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.5, 2.5]}), path, write_page_checksum=True, compression=None, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<2d", 1.5, 2.5))] ^= 1
    path.write_bytes(content)
    for options, code in (((), 1), (("--reading", "verify_checksums=false"), 0), ((), 1)):
        done = run_command("scan", "a.parquet", *options, cwd=tmp_path)
        assert done.returncode == code, done.stdout


@pytest.mark.slow
def test_it_bounds_a_check_of_the_whole_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "own.py").write_text(MODEL)
    done = run_command("scan", "a.parquet", "--schema", "own:Model", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_command(
        "scan", "a.parquet", "--schema", "own:Model", "--reading", "max_whole_file_bytes=1", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "DC005" in done.stdout


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("verify_checksums", "--reading: expected NAME=VALUE such as verify_checksums=false, got 'verify_checksums'"),
        ("verify_checksum=no", "reading.verify_checksum: unknown key"),
        ("max_members=many", "reading.max_members: expected an integer, got 'many'"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_is_expected(value: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    done = run_command("scan", "a.csv", "--reading", value, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
