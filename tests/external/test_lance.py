"""Damaged Lance datasets, in a child process: some errors of the library abort the process that scans."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import datacheck

lance = pytest.importorskip("lance")

#: Scans a dataset once for each byte near the end of its data file, where its metadata are, with that byte set to null.
SCAN_WITH_NULL_BYTES = """
import sys
from pathlib import Path
import datacheck
folder = Path(sys.argv[1])
(data,) = (folder / "data").glob("*.lance")
whole, codes = data.read_bytes(), set()
for place in range(len(whole) - 200, len(whole), 2):
    data.write_bytes(whole[:place] + bytes(1) + whole[place + 1 :])
    codes |= {finding.code for finding in datacheck.scan(folder, workers=1).findings}
print(sorted(codes))
"""


def test_a_null_byte_in_damaged_metadata_is_a_finding_and_no_abort(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"x": [1.0, 2.0, 3.0] * 10, "s": ["ab", "c", None] * 10}), str(tmp_path / "x.lance"))
    command = [sys.executable, "-c", SCAN_WITH_NULL_BYTES, str(tmp_path / "x.lance")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "DC901" in done.stdout
    assert "DC915" not in done.stdout


def test_a_missing_data_file_is_named_and_the_other_fragments_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.lance"
    for values in ([1.0, 2.0], [3.0, float("nan")]):
        lance.write_dataset(pa.table({"x": values}), str(path), mode="append" if path.exists() else "create")
    first, *_ = lance.dataset(str(path)).get_fragments()
    name = first.data_files()[0].path
    (path / "data" / name).unlink()
    report = datacheck.scan(path, workers=1)
    assert {finding.code for finding in report.findings} == {"DC911", "DC101"}
    (finding,) = (one for one in report.findings if one.code == "DC911")
    assert f"its file 'data/{name}' is missing" in finding.message
