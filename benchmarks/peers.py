"""What others need to find the same bad values in a Parquet file: each in the fastest form that was found and is right.

A value is bad that is null, NaN, infinite or beyond the limits; a column of another dtype is refused. The ``count_``
functions say how many values are bad, the checks only whether there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.inputs import LIMIT, column_names

__all__ = [
    "count_nonfinite_with_polars",
    "count_with_duckdb",
    "count_with_polars",
    "is_valid_in_polars",
    "make_dataframely_check",
    "make_pandera_check",
]


def count_with_polars(path: Path, num_columns: int) -> int:
    """Polars' streaming engine. A NaN is above every number there, so the bounds find it, and infinities."""
    import polars as pl

    return _count_not(path, num_columns, lambda name: pl.col(name).is_between(-LIMIT, LIMIT))


def count_nonfinite_with_polars(path: Path, num_columns: int) -> int:
    """The same without bounds: ``is_finite`` and nulls."""
    import polars as pl

    return _count_not(path, num_columns, lambda name: pl.col(name).is_finite())


def is_valid_in_polars(path: Path, num_columns: int) -> bool:
    """What :func:`count_with_polars` looks for, and only whether there is none: the least that polars can be asked."""
    import polars as pl

    names = column_names(num_columns)
    good = [pl.col(name).is_between(-LIMIT, LIMIT).all(ignore_nulls=False) for name in names]
    return all(_float_frame(path).select(good).collect(engine="streaming").row(0))


def count_with_duckdb(path: Path, num_columns: int) -> int:
    """DuckDB, with all its threads, everything in one pass.

    ``isnan(x)`` and ``x BETWEEN a AND b`` alone would take no time and find no NaN: DuckDB 2.0.1 answers them from the
    minimum and maximum in the footer, which leave NaN out. ``isfinite`` makes it look at the values.
    """
    import duckdb

    names = column_names(num_columns)
    good = [f"count_if(isfinite({name}) AND {name} BETWEEN {-LIMIT}::FLOAT AND {LIMIT}::FLOAT)" for name in names]
    with duckdb.connect() as connection:
        relation = connection.read_parquet(str(path))
        _require_floats(relation.columns, map(str, relation.types), "FLOAT")
        found = relation.aggregate(f"count(*), {', '.join(good)}").fetchall()[0]
    return int(found[0] * len(names) - sum(found[1:]))


def make_dataframely_check(num_columns: int) -> Callable[[Path], bool]:
    """Whether a dataframely schema passes the file, streamed by polars."""
    import dataframely as dy
    import polars as pl

    columns = {name: dy.Float32(min=-LIMIT, max=LIMIT) for name in column_names(num_columns)}
    schema: Any = type("Columns", (dy.Schema,), columns)

    def check(path: Path) -> bool:
        return bool(schema.is_valid(pl.scan_parquet(path), engine="streaming"))

    return check


def make_pandera_check(num_columns: int) -> Callable[[Path], bool]:
    """Whether a pandera schema passes the file as pandas reads it, where null and NaN are one."""
    import pandas as pd
    import pandera.pandas as pa

    column = pa.Column("float32", pa.Check.in_range(-LIMIT, LIMIT), nullable=False)
    schema = pa.DataFrameSchema(dict.fromkeys(column_names(num_columns), column))

    def check(path: Path) -> bool:
        try:
            schema.validate(pd.read_parquet(path), lazy=True)
        except pa.errors.SchemaErrors:
            return False
        return True

    return check


def _count_not(path: Path, num_columns: int, is_good: Callable[[str], Any]) -> int:
    import polars as pl

    names = column_names(num_columns)
    good = [is_good(name).sum() for name in names]
    found = _float_frame(path).select(pl.len().alias("rows"), *good).collect(engine="streaming").row(0)
    return int(found[0] * len(names) - sum(found[1:]))


def _float_frame(path: Path) -> Any:
    import polars as pl

    frame = pl.scan_parquet(path)
    schema = frame.collect_schema()
    _require_floats(schema.names(), schema.dtypes(), pl.Float32)
    return frame


def _require_floats(names: Any, dtypes: Any, expected: Any) -> None:
    other = [name for name, dtype in zip(names, dtypes, strict=True) if dtype != expected]
    if other:
        raise TypeError(f"not float32: {', '.join(other)}")
