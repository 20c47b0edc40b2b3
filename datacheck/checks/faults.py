"""What a source found while it read: keys that records lack, values of another type. The schema may allow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from datacheck.batch import Batch, Fault
from datacheck.checks.base import Outcome
from datacheck.codes import MISSING_KEY, OTHER_MISSING_KEY, UNDECODABLE
from datacheck.distinct import distinct
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import Leaf
from datacheck.schema.model import Schema


def fault_outcomes(batch: Batch, schema: Schema) -> Iterator[Outcome]:
    """The outcome of each fault of a batch that the schema does not allow."""
    for fault in batch.faults:
        code = fault.code
        if code == MISSING_KEY:
            field = schema.field_for(fault.field)
            if field is not None and (field.nullable or not field.required):
                continue
            code = MISSING_KEY if field is not None else OTHER_MISSING_KEY
        if len(fault.rows):
            yield _outcome(code, fault, batch)


def keys_outcomes(path: str, batch: Batch, objects: Mapping[str | None, Leaf], schema: Schema) -> Iterator[Outcome]:
    """The outcome for a field of the schema that no record of a batch has, though its object is there."""
    above = path
    while above and above not in objects:
        above = above.rpartition(".")[0]
    if above:
        leaf = objects[above]
        positions = np.arange(len(leaf)) if leaf.validity is None else np.flatnonzero(leaf.validity)
        rows = leaf.locate(positions)[0]
    else:
        rows = np.arange(batch.num_rows, dtype=np.int64)
    found = Fault(MISSING_KEY, path, len(rows), rows)
    yield from fault_outcomes(replace(batch, faults=(found,)), schema)


def count_undecoded(leaf: Leaf, batch: Batch) -> int:
    """How many values of a leaf are null only because they could not be decoded."""
    if leaf.validity is None:
        return 0
    rows = [fault.rows for fault in batch.faults if (fault.code, fault.field) == (UNDECODABLE, leaf.path)]
    return sum(int(np.count_nonzero(~leaf.validity[one])) for one in rows)


def _outcome(code: str, fault: Fault, batch: Batch) -> Outcome:
    shown = fault.examples or tuple((int(row), "") for row in fault.rows[:MAX_EXAMPLES])
    rows = batch.file_rows(np.array([row for row, _ in shown], np.int64))
    examples = tuple(Example(int(row), batch.row_group, (), value) for row, (_, value) in zip(rows, shown, strict=True))
    rows_at_fault = distinct(fault.rows)
    return Outcome(code, fault.field, fault.num_checked, len(fault.rows), rows_at_fault, examples, detail=fault.detail)
