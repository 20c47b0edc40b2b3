"""The ledger names every row that was not kept, and so which row each kept one is."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from datacheck.errors import AccountingError, OutputError
from datacheck.sinks.ledger import kept_rows, read_ledger, write_ledger


def test_a_ledger_reads_back_in_row_order(tmp_path):
    path = tmp_path / "ledger.parquet"
    size = write_ledger(
        path, [9, 4, 7], ["dropped", "quarantined", "dropped"], [("DC101",), ("DC104", "DC201"), ()], [2, 1, None]
    )
    assert size == path.stat().st_size
    assert read_ledger(path).to_pylist() == [
        {"row_group": 1, "row": 4, "verdict": "quarantined", "codes": ["DC104", "DC201"]},
        {"row_group": None, "row": 7, "verdict": "dropped", "codes": []},
        {"row_group": 2, "row": 9, "verdict": "dropped", "codes": ["DC101"]},
    ]


def test_rows_are_stored_as_differences(tmp_path):
    rows = np.arange(0, 2_000_000, 7)
    size = write_ledger(tmp_path / "l", rows, ["dropped"] * len(rows), [("DC101",)] * len(rows))
    column = pq.ParquetFile(tmp_path / "l").metadata.row_group(0).column(1)
    assert "DELTA_BINARY_PACKED" in column.encodings
    assert size < len(rows)


def test_an_empty_ledger_keeps_every_row(tmp_path):
    write_ledger(tmp_path / "l", [], [], [])
    ledger = read_ledger(tmp_path / "l")
    assert ledger.num_rows == 0
    assert kept_rows(ledger, 40, 3).tolist() == [40, 41, 42]


def test_kept_rows_are_those_that_the_ledger_does_not_name(tmp_path):
    write_ledger(tmp_path / "l", [12, 10, 99, 3], ["dropped"] * 4, [()] * 4)
    kept = kept_rows(read_ledger(tmp_path / "l"), 10, 5)
    assert kept.dtype == np.int64
    assert kept.tolist() == [11, 13, 14]


def test_a_row_has_one_verdict(tmp_path):
    with pytest.raises(AccountingError, match="two verdicts"):
        write_ledger(tmp_path / "l", [5, 5], ["dropped", "quarantined"], [(), ()])


def test_columns_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(AccountingError, match=r"\[1, 2\] rows"):
        write_ledger(tmp_path / "l", [5, 6], ["dropped", "dropped"], [()])


def test_other_verdicts_are_refused(tmp_path):
    with pytest.raises(AccountingError, match="'kept'"):
        write_ledger(tmp_path / "l", [5], ["kept"], [()])


@pytest.mark.parametrize("content", [None, b"", b"PAR1 not really PAR1"])
def test_a_ledger_that_cannot_be_read_says_so(content, tmp_path):
    if content is not None:
        (tmp_path / "l").write_bytes(content)
    with pytest.raises(OutputError, match="cannot be read as a ledger"):
        read_ledger(tmp_path / "l")
