"""The ledger of a unit: every row that was read and not kept, with what became of it and why.

Together with the unit's rows it says which row of the input each kept row is, so an output needs no extra column for
its provenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.errors import AccountingError, OutputError
from datacheck.leaves import IntArray
from datacheck.sinks.categorical import Categorical
from datacheck.storage.atomic import write_file
from datacheck.text import plain

__all__ = ["DROPPED", "LEDGER_SCHEMA", "QUARANTINED", "kept_rows", "read_ledger", "write_ledger"]

DROPPED, QUARANTINED = "dropped", "quarantined"
_VERDICTS = (DROPPED, QUARANTINED)

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("row_group", pa.int32()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("verdict", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("codes", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)


def write_ledger(
    path: Path,
    rows: Sequence[int] | IntArray,
    verdicts: Sequence[str],
    codes: Sequence[tuple[str, ...]],
    row_groups: Sequence[int | None] | IntArray | pa.Array | None = None,
) -> int:
    """Write the ledger of a unit as Parquet, atomically, in the order of the rows; its size in bytes.

    All sequences are as long as ``rows``; a verdict is ``"dropped"`` or ``"quarantined"``. Raises ``AccountingError``
    where they are not, or a row is named twice, and ``OutputError`` where the file cannot be written.
    """
    places = np.asarray(rows, np.int64)
    groups: pa.Array = _groups(row_groups, len(places))
    lengths = {len(places), len(verdicts), len(codes), len(groups)}
    if len(lengths) != 1:
        raise AccountingError(
            f"{plain(str(path))}: the ledger's columns have {sorted(lengths)} rows, not one number of them"
        )
    chosen = Categorical.of(verdicts)
    unknown = {verdict for verdict, _ in chosen.counts()} - set(_VERDICTS)
    if unknown:
        raise AccountingError(f"{plain(str(path))}: {sorted(unknown)} are no verdicts of a ledger")
    order = None if (places[1:] > places[:-1]).all() else np.argsort(places, kind="stable")
    if order is not None and (np.diff(places[order]) == 0).any():
        raise AccountingError(f"{plain(str(path))}: a row has two verdicts")
    number_of = {verdict: number for number, verdict in enumerate(_VERDICTS)}
    indices = np.array([number_of.get(verdict, 0) for verdict in chosen.values], np.int8)[chosen.indices]
    table = pa.Table.from_arrays(
        [
            groups,
            pa.array(places),
            pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(_VERDICTS)),
            Categorical.of(codes).to_arrow(LEDGER_SCHEMA.field("codes").type),
        ],
        schema=LEDGER_SCHEMA,
    )
    if order is not None:
        table = table.take(pa.array(order))
    return write_file(
        path,
        lambda file: pq.write_table(
            table,
            file,
            compression="zstd",
            use_dictionary=["verdict", "codes.list.element", "row_group"],
            column_encoding={"row": "DELTA_BINARY_PACKED"},
        ),
    )


def _groups(row_groups: Sequence[int | None] | IntArray | pa.Array | None, count: int) -> pa.Array:
    if row_groups is None:
        return pa.nulls(count, pa.int32())
    return row_groups if isinstance(row_groups, pa.Array) else pa.array(row_groups, pa.int32())


def read_ledger(path: Path) -> pa.Table:
    """A ledger as a table of ``LEDGER_SCHEMA``; raises ``OutputError`` where there is none to read."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowInvalid) as error:
        raise OutputError(f"{plain(str(path))}: cannot be read as a ledger: {plain(str(error))}; run again") from error


def kept_rows(ledger: pa.Table, start: int, count: int) -> IntArray:
    """The row of the input that each kept row is, ascending, of a unit of ``count`` rows from ``start``."""
    kept = np.ones(count, np.bool_)
    gone = ledger.column("row").to_numpy() - start
    kept[gone[(gone >= 0) & (gone < count)]] = False
    rows: IntArray = np.flatnonzero(kept) + start
    return rows
