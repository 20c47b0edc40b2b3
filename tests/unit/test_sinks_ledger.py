"""The ledger lists every row that was not kept."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from datacheck.errors import AccountingError
from datacheck.sinks.ledger import LEDGER_SCHEMA, write_ledger


def test_a_ledger_reads_back_in_row_order(tmp_path):
    path = tmp_path / "ledger.parquet"
    size = write_ledger(
        str(path), [9, 4, 7], ["dropped", "quarantined", "dropped"], [("DC101",), ("DC104", "DC201"), ()], [2, 1, None]
    )
    assert size == path.stat().st_size
    assert pq.read_table(path).to_pylist() == [
        {"row_group": 1, "row": 4, "verdict": "quarantined", "codes": ["DC104", "DC201"]},
        {"row_group": None, "row": 7, "verdict": "dropped", "codes": []},
        {"row_group": 2, "row": 9, "verdict": "dropped", "codes": ["DC101"]},
    ]


def test_row_numbers_are_delta_encoded(tmp_path):
    rows = np.arange(0, 2_000_000, 7)
    size = write_ledger(str(tmp_path / "l"), rows, ["dropped"] * len(rows), [("DC101",)] * len(rows))
    column = pq.ParquetFile(tmp_path / "l").metadata.row_group(0).column(1)
    assert "DELTA_BINARY_PACKED" in column.encodings
    assert size < len(rows)


def test_an_empty_ledger_has_its_columns(tmp_path):
    write_ledger(str(tmp_path / "l"), [], [], [])
    ledger = pq.read_table(tmp_path / "l")
    assert ledger.num_rows == 0
    assert ledger.column_names == LEDGER_SCHEMA.names


def test_duplicate_rows_are_refused(tmp_path):
    with pytest.raises(AccountingError, match="duplicate row"):
        write_ledger(str(tmp_path / "l"), [5, 5], ["dropped", "quarantined"], [(), ()])


def test_columns_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(AccountingError, match=r"got lengths \[1, 2\]"):
        write_ledger(str(tmp_path / "l"), [5, 6], ["dropped", "dropped"], [()])


def test_unknown_verdicts_are_refused(tmp_path):
    with pytest.raises(AccountingError, match="'kept'"):
        write_ledger(str(tmp_path / "l"), [5], ["kept"], [()])
