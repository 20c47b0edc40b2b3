"""The ledger of a unit: every row that was read but not kept, with its verdict and codes.

It also gives the input row of each kept row, so that outputs need no provenance column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.errors import AccountingError
from datacheck.leaves import IntArray
from datacheck.sinks.categorical import Categorical
from datacheck.sinks.writer import write_file
from datacheck.text import plain, valid_text

DROPPED, QUARANTINED = "dropped", "quarantined"
#: Of a row that was quarantined, fixed, and taken back: it is kept, in a file of its own.
REQUEUED = "requeued"

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("row_group", pa.int32()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("verdict", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("codes", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)


def write_ledger(
    uri: str,
    rows: Sequence[int] | IntArray,
    verdicts: Sequence[str],
    codes: Sequence[tuple[str, ...]],
    row_groups: Sequence[int | None] | IntArray | pa.Array | None = None,
    further: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Write the ledger of a unit as Parquet, atomically, sorted by row; returns its size in bytes.

    ``further`` are columns of text, which the ledger of samples has: the file of each, and the reason. All sequences have the
    length of ``rows``; a verdict is ``"dropped"``, ``"quarantined"`` or ``"requeued"``. Raises ``AccountingError`` for other
    lengths, other verdicts and duplicate rows, and ``OutputError`` if the file cannot be written.
    """
    numbers = np.asarray(rows, np.int64)
    groups: pa.Array = _groups(row_groups, len(numbers))
    lengths = {len(numbers), len(verdicts), len(codes), len(groups)}
    if len(lengths) != 1:
        raise AccountingError(f"{plain(uri)}: expected ledger columns of equal length, got lengths {sorted(lengths)}")
    chosen = Categorical.of(verdicts)
    verdicts_used = {verdict for verdict, _ in chosen.counts()}
    known = (DROPPED, QUARANTINED, *((REQUEUED,) if REQUEUED in verdicts_used else ()))
    unknown = verdicts_used - set(known)
    if unknown:
        raise AccountingError(f"{plain(uri)}: unknown ledger verdicts {sorted(unknown)}")
    order = None if (numbers[1:] > numbers[:-1]).all() else np.argsort(numbers, kind="stable")
    if order is not None and (np.diff(numbers[order]) == 0).any():
        raise AccountingError(f"{plain(uri)}: duplicate row in the ledger")
    index_of = {verdict: index for index, verdict in enumerate(known)}
    indices = np.array([index_of.get(verdict, 0) for verdict in chosen.values], np.int8)[chosen.indices]
    table = pa.Table.from_arrays(
        [
            groups,
            pa.array(numbers),
            pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(known)),
            Categorical.of(codes).to_arrow(LEDGER_SCHEMA.field("codes").type),
        ],
        schema=LEDGER_SCHEMA,
    )
    for name, texts in (further or {}).items():
        table = table.append_column(name, pa.array([valid_text(text) for text in texts], pa.string()))
    if order is not None:
        table = table.take(pa.array(order))
    return write_file(
        uri,
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
