"""Two values are one key, or a leak, exactly if they are equal, whatever dtypes store them. Python's numbers are the oracle."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.batch import Batch, Column
from datacheck.hashing.keys import hash_unique_keys
from datacheck.hashing.store import HashStore
from datacheck.schema import Field, Schema

KEY = Schema(fields={"a": Field(unique=True, allow_nan=True, allow_inf=True, nullable=True)})
NAN = float("nan")

#: Numbers at the edges of every dtype, and the bits of some of them as integers.
NUMBERS = [
    *(
        sign * number + offset
        for number in (0, 127, 2**31, 2**53, 2**63, 2**64)
        for sign in (1, -1)
        for offset in (-1, 0, 1)
    ),
    *(np.array([value]).view(kind)[0].item() for value in (1.0, 0.5, -1.0, NAN) for kind in ("i8", "u8")),
    *(0.5, -0.5, 0.1, 1.1, 1.5, 5e-324, 2.0**70, -(2.0**63), math.inf, -math.inf, NAN, -0.0),
]
INTEGERS = ["int8", "int32", "int64", "uint8", "uint32", "uint64", ">i4", ">u8"]
FLOATS = ["float16", "float32", "float64", ">f4"]


def of_integers(name: str) -> np.ndarray[Any, Any]:
    kind = np.iinfo(name)
    return np.array(
        [
            value
            for value in NUMBERS
            if value == value and value == value // 1 and kind.min <= value <= kind.max and not isinstance(value, float)
        ],
        name,
    )


def of_floats(name: str) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        return np.array([float(value) for value in NUMBERS], name)


def arrow(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(list(values), kind)


DECIMALS = [
    Decimal(text)
    for text in ("0", "1", "1.00", "0.5", "0.1", "1.1", "-1", "9223372036854775807", "18446744073709551615")
]
ARRAYS: dict[str, Any] = {
    **{name: of_integers(name) for name in INTEGERS},
    **{name: of_floats(name) for name in FLOATS},
    "arrow int64": pa.array(of_integers("int64")),
    "arrow uint64": pa.array(of_integers("uint64")),
    "arrow float64": arrow([*of_floats("float64").tolist(), None], pa.float64()),
    "bool": np.array([True, False]),
    "decimal128": arrow([*DECIMALS, None], pa.decimal128(30, 2)),
    "decimal256": arrow(DECIMALS, pa.decimal256(60, 20)),
    "decimal32": arrow([Decimal("0.5"), Decimal("0.1")], pa.decimal32(5, 1)),
}
TICKS = [0, 1, -1, 86_400, 10**9, 10**15, 2**62, -(2**62), 2**63 - 1]
INSTANTS: dict[str, pa.Array] = {
    **{f"timestamp[{unit}]": pa.array(TICKS, pa.int64()).view(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "with a time zone": pa.array(TICKS, pa.int64()).view(pa.timestamp("us", "UTC")),
    "date32": pa.array([0, 1, 2**31 - 1, 20_000], pa.int32()).view(pa.date32()),
    "date64": pa.array([0, 86_400_000, 86_400_000 * 20_000], pa.int64()).view(pa.date64()),
}
DURATIONS = {f"duration[{unit}]": pa.array(TICKS, pa.int64()).view(pa.duration(unit)) for unit in ("s", "us", "ns")}
TEXTS: dict[str, Any] = {
    **{
        str(kind): pa.array(["", "a", "long text " * 40, None], kind)
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    },
    "dictionary": pa.array(["a", "b", None]).dictionary_encode(),
    "NumPy text": np.array(["a", "c", ""]),
    **{str(kind): pa.array([b"", b"a", b"c"], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    "binary(1)": pa.array([b"a", b"c"], pa.binary(1)),
}
ALL = {**ARRAYS, **INSTANTS, **DURATIONS, **TEXTS}
SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def canonical(name: str, array: Any) -> list[Any]:
    """The values as Python objects that are equal exactly if they are."""
    if name in INSTANTS or name in DURATIONS:
        kind = array.type
        ticks = array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
        per_second = Fraction(1, 86_400) if name == "date32" else 1000 if name == "date64" else SECONDS[kind.unit]
        return [(name in INSTANTS, tick / Fraction(per_second)) for tick in ticks]
    found = []
    for value in array.tolist() if isinstance(array, np.ndarray) else array.to_pylist():
        if isinstance(value, float | int | Decimal):
            value = "nan" if value != value else str(value) if value in (math.inf, -math.inf) else Fraction(value)
            value = ("number", value)
        found.append(value)
    return found


def repeated(*arrays: Any) -> list[int]:
    with HashStore() as store:
        for array in arrays:
            for key in hash_unique_keys(Batch((Column("a", array),), len(array)), KEY):
                store.add(key.hashes)
        return store.repeated().tolist()


def oracle(values: list[Any]) -> list[int]:
    seen: set[Any] = set()
    rows = []
    for row, value in enumerate(values):
        if value in seen:
            rows.append(row)
        seen.add(value)
    return rows


@pytest.mark.parametrize("first", sorted(ALL))
def test_keys_of_every_pair_of_dtypes_repeat_exactly_if_they_are_equal(first: str) -> None:
    for second in sorted(ALL):
        values = canonical(first, ALL[first]) + canonical(second, ALL[second])
        assert repeated(ALL[first], ALL[second]) == oracle(values), (first, second)


@given(st.sampled_from(sorted(ARRAYS)), st.sampled_from(sorted(ARRAYS)), st.data())
@settings(max_examples=100, deadline=None)
def test_lists_of_every_pair_of_dtypes_repeat_exactly_if_they_are_equal(
    first: str, second: str, data: st.DataObject
) -> None:
    lists, values = [], []
    for name in (first, second):
        array = ARRAYS[name]
        if isinstance(array, np.ndarray):
            array = pa.array(array.astype(array.dtype.newbyteorder("=")))
        ends = sorted(data.draw(st.lists(st.integers(0, len(array)), max_size=12)))
        offsets = pa.array([0, *ends], pa.int32())
        lists.append(pa.ListArray.from_arrays(offsets, array))
        flat = canonical(name, array)
        values += [tuple(flat[start:end]) for start, end in zip([0, *ends][:-1], ends, strict=True)]
    assert repeated(*lists) == oracle(values)


def leaks(train: Any, other: Any) -> int:
    """The leaked rows; a second column tells a row that is one number from a chance."""
    tables = [pa.table({"a": array, "b": ["x"] * len(array)}) for array in (train, other)]
    report = datacheck.compare(*tables, drift=False, key="a")
    return sum(finding.num_violations for finding in report.findings if finding.code == "DC311")


@pytest.mark.parametrize(
    ("first", "second"), [*combinations_with_replacement(["int8", "int64", "uint8", "uint64", "bool"], 2)]
)
def test_leaks_of_integers_are_exact(first: str, second: str) -> None:
    train, other = pa.array(ARRAYS[first]), pa.array(ARRAYS[second])
    known = set(canonical(first, train))
    assert leaks(train, other) == sum(value in known for value in canonical(second, other))


def test_leaks_across_kinds() -> None:
    assert leaks(pa.array([1, 2]), pa.array([1.0, 2.5])) == 1
    assert leaks(pa.array(np.array([1.0]).view(np.int64)), pa.array([1.0])) == 0
    assert leaks(pa.array(["a", "b"]), pa.array(["a"], pa.string_view())) == 1
    now = datetime.datetime(2024, 1, 1)
    assert leaks(pa.array([now], pa.timestamp("ns")), pa.array([now], pa.timestamp("us"))) == 1
