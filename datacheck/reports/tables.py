"""Findings as a table, one row a finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datacheck.findings import Finding
from datacheck.text import valid_text

if TYPE_CHECKING:
    import pyarrow as pa


def findings_table(findings: Sequence[Finding]) -> pa.Table:
    """One row a finding; ``rows``, ``lines`` and ``values`` come from its examples, at most 5."""
    import pyarrow as pa

    numbers, texts = pa.list_(pa.int64()), pa.list_(pa.string())
    schema = pa.schema(
        [
            ("code", pa.string()),
            ("name", pa.string()),
            ("severity", pa.string()),
            ("uri", pa.string()),
            ("field", pa.string()),
            ("rule", pa.string()),
            ("num_violations", pa.int64()),
            ("num_checked", pa.int64()),
            ("num_rows", pa.int64()),
            ("rows", numbers),
            ("lines", numbers),
            ("values", texts),
            ("message", pa.string()),
        ]
    )
    return pa.Table.from_pylist([_record(finding) for finding in findings], schema)


def _record(finding: Finding) -> dict[str, Any]:
    texts = {
        "uri": finding.uri,
        "field": finding.field,
        "rule": finding.rule,
        "message": finding.message,
    }
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity and finding.severity.value,
        **{name: text and valid_text(text) for name, text in texts.items()},
        "num_violations": finding.num_violations,
        "num_checked": finding.num_checked,
        "num_rows": finding.num_rows,
        "rows": [example.row for example in finding.examples if example.row is not None],
        "lines": [example.line for example in finding.examples if example.line is not None],
        "values": [valid_text(example.value) for example in finding.examples if example.value],
    }
