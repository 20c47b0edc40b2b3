"""Pipelines of the benchmarks, written to a file and run through the public functions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

import datacheck
from benchmarks.inputs import LIMIT, column_names

__all__ = ["CONSTANT", "MEAN", "clean_with", "run_pipeline", "write_pipeline"]

_DROP = {"action": "drop_row", "codes": ["DC102", "DC103"]}
#: A row with an infinity goes; a NaN becomes a constant, or the mean of its column.
CONSTANT: list[dict[str, Any]] = [_DROP, {"action": "impute", "strategy": "constant", "value": 0.0, "codes": "DC101"}]
MEAN: list[dict[str, Any]] = [_DROP, {"action": "impute", "strategy": "mean", "codes": "DC101"}]


def write_pipeline(
    path: Path, data: Path | str, output: Path | str, rules: list[dict[str, Any]], num_columns: int | None
) -> datacheck.Pipeline:
    """A pipeline over files of float32 columns, or over an ``.npy`` where ``num_columns`` is None; URIs are text."""
    names = column_names(num_columns) if num_columns else ["values"]
    field = {"dtype": "float32", "ge": -LIMIT, "le": LIMIT}
    record = {
        "version": 1,
        "schema": {"fields": {name: dict(field) for name in names}},
        "inputs": {"train": str(data.resolve() if isinstance(data, Path) else data)},
        "clean": rules,
        "output": {"path": str(output.resolve() if isinstance(output, Path) else output)},
    }
    path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    return datacheck.load_pipeline(path)


def run_pipeline(pipeline: datacheck.Pipeline) -> tuple[int, int]:
    """Run from nothing; how many rows are kept and dropped."""
    shutil.rmtree(pipeline.output, ignore_errors=True)
    return _rows(datacheck.run(pipeline))


def clean_with(pipeline: datacheck.Pipeline, statistics: datacheck.Statistics) -> tuple[int, int]:
    """Clean from nothing with statistics that were learned before; how many rows are kept and dropped."""
    shutil.rmtree(pipeline.output, ignore_errors=True)
    return _rows(datacheck.clean(pipeline, statistics))


def _rows(report: datacheck.RunReport) -> tuple[int, int]:
    if not report.ok:
        raise RuntimeError(f"the job did not clean everything: {[finding.message for finding in report.findings]}")
    return (
        sum(account.num_kept for account in report.accounts),
        sum(account.num_dropped for account in report.accounts),
    )
