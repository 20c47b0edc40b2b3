"""One suite over every repair and every kind of column, and what is particular to some."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from datacheck.batch import Batch, Column
from datacheck.cleaning.fit.learner import Learner
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import leaf_dtypes, parse_plan
from datacheck.cleaning.repairs import RepairCount, apply, apply_repairs, drop_fields
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError
from datacheck.schema.model import Field, Schema

NAN, INF = math.nan, math.inf
Values = list[float | None]

#: 24 values: enough for any shape below. None is a null where the kind has nulls, and NaN where not.
VALUES: Values = [
    *(1.5, NAN, -2.0, None, 7.25, 7.25, INF, -40.0),
    *(0.5, NAN, 3.0, -INF, 90.0, None, 7.25, 1.0),
    *(-1.0, 0.25, NAN, 2.0, 2.5, -6.0, None, 11.0),
]


@dataclass(frozen=True)
class Kind:
    """A kind of column: how it is made of 24 values, how they are read back, and what NumPy calls their dtype."""

    build: Callable[[Values], Any]
    dtype: Any = np.float32
    nulls: bool = False


def numpy_of(values: Values, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.array([NAN if value is None else value for value in values], np.float64).astype(dtype)


def structured(values: Values) -> np.ndarray[Any, Any]:
    array = np.zeros(24, [("id", np.int32), ("x", np.float32)])
    array["x"] = numpy_of(values)
    return array


def masked(values: Values) -> Any:
    data = np.array([0 if value is None else value for value in values], np.float32)
    return np.ma.MaskedArray(data, mask=[value is None for value in values])


def lists(values: Values, kind: Callable[[pa.DataType], pa.DataType] = pa.list_) -> pa.Array:
    cuts = [0, 5, 5, 17, 24]
    rows: list[Any] = [values[start:stop] for start, stop in itertools.pairwise(cuts)]
    return pa.array([[99.0], *rows, None], kind(pa.float32())).slice(1)


def maps(values: Values) -> pa.Array:
    rows = [[(f"k{i}", value) for i, value in enumerate(values[start : start + 8])] for start in (0, 8, 16)]
    return pa.array([*rows, None], pa.map_(pa.string(), pa.float32()))


def fixed_lists(values: Values) -> pa.Array:
    rows: list[Any] = [values[start : start + 3] for start in range(0, 24, 3)]
    return pa.array([[99.0] * 3, rows[0], None, *rows[1:]], pa.list_(pa.float32(), 3)).slice(1)


def tensors(values: Values) -> pa.Array:
    storage = pa.array([values[start : start + 6] for start in range(0, 24, 6)], pa.list_(pa.float32(), 6))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (2, 3)), storage)


def structs(values: Values) -> pa.Array:
    rows: list[Any] = [{"a": a, "b": [b]} for a, b in zip(values[::2], values[1::2], strict=True)]
    return pa.array([rows[0], None, *rows[1:]], pa.struct([("a", pa.float32()), ("b", pa.list_(pa.float32()))]))


def run_ends(values: Values) -> pa.Array:
    return pa.compute.run_end_encode(pa.array(values, pa.float32()))


KINDS = {
    "numpy": Kind(numpy_of),
    "numpy float64": Kind(lambda values: numpy_of(values, np.float64), np.float64),
    "numpy float16": Kind(lambda values: numpy_of(values, np.float16), np.float16),
    "numpy 3-d": Kind(lambda values: numpy_of(values).reshape(4, 2, 3)),
    "numpy fortran": Kind(lambda values: np.asfortranarray(numpy_of(values).reshape(4, 6))),
    "numpy transposed": Kind(
        lambda values: numpy_of(values).reshape(4, 2, 3).transpose(0, 2, 1).copy().transpose(0, 2, 1)
    ),
    "numpy strided": Kind(lambda values: np.repeat(numpy_of(values), 2)[::2]),
    "numpy big-endian": Kind(lambda values: numpy_of(values).astype(">f4"), ">f4"),
    "numpy structured": Kind(structured),
    "numpy masked": Kind(masked, nulls=True),
    "bfloat16": Kind(lambda values: numpy_of(values, ml_dtypes.bfloat16), ml_dtypes.bfloat16),
    "float8_e5m2": Kind(lambda values: numpy_of(values, ml_dtypes.float8_e5m2), ml_dtypes.float8_e5m2),
    "arrow float32": Kind(lambda values: pa.array(values, pa.float32()), nulls=True),
    "arrow float64": Kind(lambda values: pa.array([5.0, *values]).slice(1), np.float64, nulls=True),
    "arrow float16": Kind(
        lambda values: pa.array([None if v is None else np.float16(v) for v in values], pa.float16()), np.float16, True
    ),
    "arrow list": Kind(lists, nulls=True),
    "arrow large list": Kind(lambda values: lists(values, pa.large_list), nulls=True),
    "arrow list view": Kind(lambda values: lists(values, pa.list_view), nulls=True),
    "arrow fixed-size list": Kind(fixed_lists, nulls=True),
    "arrow tensor": Kind(tensors, nulls=True),
    "arrow struct": Kind(structs, nulls=True),
    "arrow map": Kind(maps, nulls=True),
    "arrow dictionary": Kind(lambda values: pa.array(values, pa.float32()).dictionary_encode(), nulls=True),
    "arrow run ends": Kind(run_ends, nulls=True),
}

#: What to do, and the codes that it replaces in words of the oracle.
REPAIRS: dict[str, dict[str, Any]] = {
    "nan to num": {"action": "nan_to_num", "nan": 0.5, "neginf": -4},
    "constant": {"action": "impute", "strategy": "constant", "value": 3.25},
    "constant for infinities": {"action": "impute", "strategy": "constant", "value": 0, "codes": ["DC102", "DC103"]},
    "mean": {"action": "impute", "strategy": "mean"},
    "median": {"action": "impute", "strategy": "median", "codes": "DC1"},
    "most frequent": {"action": "impute", "strategy": "most_frequent"},
    "mean for what breaks a bound": {"action": "impute", "strategy": "mean", "codes": "DC202"},
    "clip": {"action": "clip", "ge": -3, "le": 8},
    "clip below": {"action": "clip", "ge": -3, "codes": "DC201"},
    "clip infinities": {"action": "clip", "ge": -64, "le": 96, "codes": ["DC102", "DC103"]},
    "clip to the schema": {"action": "clip"},
    "clip to quantiles": {"action": "clip", "quantiles": [0.1, 0.8]},
}
#: Allows everything that is in the values but what is above 50.
SCHEMA = Schema(
    fields={
        path: Field(nullable=True, allow_nan=True, allow_inf=True, le=50)
        for path in ("x", "x.x", "x.a", "x.b[]", "x[].value")
    }
)


def expected(values: Values, repair: dict[str, Any], dtype: Any) -> Values:
    """What NumPy says that a repair makes of a population of values."""
    array = numpy_of(values, dtype).astype(np.float64)
    null = np.array([value is None for value in values])
    kinds = {"DC101": np.isnan(array) & ~null, "DC102": array == INF, "DC103": array == -INF, "DC104": null}
    kinds["DC202"] = np.isfinite(array) & (array > 50)
    codes = repair.get("codes", [])
    codes = [codes] if isinstance(codes, str) else codes
    if repair["action"] == "nan_to_num":
        array[kinds["DC101"]] = np.float64(np.array(repair["nan"]).astype(dtype))
        array[kinds["DC103"]] = repair["neginf"]
    elif repair["action"] == "impute":
        codes = codes or ["DC101", "DC104"]
        wanted = np.any([mask for code, mask in kinds.items() if code.startswith(tuple(codes))], axis=0)
        usable = array[np.isfinite(array) & ~null & ~wanted]
        array[wanted] = np.float64(np.array(fill_of(usable, repair)).astype(dtype))
        null &= ~wanted
    else:
        usable = array[np.isfinite(array) & ~null & (array <= 50)]
        lower, upper = repair.get("ge", -INF), repair.get("le", 50 if "ge" not in repair else INF)
        if "quantiles" in repair:
            lower, upper = np.quantile(usable, repair["quantiles"])
        lower, upper = bound_in(lower, dtype, up=True), bound_in(upper, dtype, up=False)
        finite = np.isfinite(array) & ~null
        if not codes or "DC201" in codes:
            array[finite & (array < lower)] = lower
        if not codes or "DC202" in codes:
            array[finite & (array > upper)] = upper
        if "DC102" in codes:
            array[kinds["DC102"]], array[kinds["DC103"]] = upper, lower
    return [None if missing else float(value) for value, missing in zip(array, null, strict=True)]


def bound_in(bound: float, dtype: Any, *, up: bool) -> float:
    """The nearest value of a dtype; of a format that NumPy has not, the nearest one inside."""
    nearest = np.array(bound).astype(dtype)
    if np.dtype(dtype).kind == "V" and (nearest < bound if up else nearest > bound):
        nearest = np.nextafter(nearest, np.array(INF if up else -INF).astype(dtype))
    return float(nearest)


def fill_of(usable: np.ndarray[Any, Any], repair: dict[str, Any]) -> float:
    if repair["strategy"] == "constant":
        return float(repair["value"])
    if repair["strategy"] == "most_frequent":
        distinct, counts = np.unique(usable, return_counts=True)
        return float(distinct[np.argmax(counts)])
    return float(np.mean(usable) if repair["strategy"] == "mean" else np.median(usable))


def flat(value: Any) -> Iterable[float | None]:
    """All numbers of a column, row by row, in the order of :data:`VALUES`."""
    if isinstance(value, pa.Array):
        value = value.storage if isinstance(value, pa.ExtensionArray) else value
        value = pa.compute.run_end_decode(value) if pa.types.is_run_end_encoded(value.type) else value
        for row in value.to_pylist():
            if row is not None or not pa.types.is_nested(value.type):
                yield from flat(row)
    elif isinstance(value, np.ma.MaskedArray):
        yield from (
            None if missing else float(x) for x, missing in zip(value.data, np.ma.getmaskarray(value), strict=True)
        )
    elif isinstance(value, np.ndarray):
        yield from (float(x) for x in (value["x"] if value.dtype.names else value).ravel())
    elif isinstance(value, dict):
        yield from (number for inner in value.values() for number in flat(inner))
    elif isinstance(value, list):
        yield from (number for inner in value for number in flat(inner))
    elif isinstance(value, tuple):
        yield from flat(value[1])
    else:
        yield None if value is None else float(value)


def learn(batch: Batch, plan: Any, schema: Schema = SCHEMA) -> Statistics:
    statistics = None
    for _ in range(plan.num_rounds(leaf_dtypes(batch))):
        learner = Learner(plan, schema, statistics)
        statistics = learner.finish(learner.merge([learner.learn(batch)]))
    return statistics or Statistics(plan.fingerprint)


def batch_of(**columns: Any) -> Batch:
    return Batch(tuple(Column(name, data) for name, data in columns.items()), len(next(iter(columns.values()))))


def same_values(found: Iterable[float | None], wanted: Iterable[float | None]) -> bool:
    """Whether they are the same but for the last digit: NumPy interpolates in float64, and rounds on the way."""
    have, want = ([("null", 0.0) if value is None else ("", value) for value in values] for values in (found, wanted))
    return [kind for kind, _ in have] == [kind for kind, _ in want] and np.allclose(
        [value for _, value in have], [value for _, value in want], rtol=1e-15, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_repair_does_to_every_kind_of_column_what_numpy_does(kind: Kind, repair: dict[str, Any]) -> None:
    values = VALUES if kind.nulls else [NAN if value is None else value for value in VALUES]
    data = kind.build(values)
    batch = batch_of(x=data)
    before = [repr(value) for value in flat(data)]
    plan = parse_plan([{**repair, "fields": ["x", "x.*", "x[].value"]} if kind.build is maps else repair])
    if kind.build is structs:
        # Each leaf of a struct is a population of its own.
        wanted = [expected(values[start::2], repair, kind.dtype) for start in (0, 1)]
        after = [number for pair in zip(*wanted, strict=True) for number in pair]
    else:
        after = expected(values, repair, kind.dtype)

    repaired, counts = apply(batch, plan, SCHEMA, learn(batch, plan))

    (column,) = repaired.columns
    assert same_values(flat(column.data), after)
    changed = sum(a != repr(b) for a, b in zip(before, after, strict=True))
    assert sum(count.num_values for count in counts) == changed > 0
    assert [repr(value) for value in flat(data)] == before, "the input was written to"
    assert_same_form(column.data, data)


def assert_same_form(found: Any, given: Any) -> None:
    assert len(found) == len(given)
    if isinstance(given, np.ndarray):
        assert (found.dtype, found.shape, type(found)) == (given.dtype, given.shape, type(given))
        return
    found.validate(full=True)
    assert found.type == given.type
    if pa.types.is_nested(given.type) and not pa.types.is_run_end_encoded(given.type):
        assert found.is_null().equals(given.is_null())
    if pa.types.is_list(given.type):
        assert pa.compute.list_value_length(found).equals(pa.compute.list_value_length(given))


INTEGERS = {
    "numpy": lambda values: np.array([0 if value is None else value for value in values], np.int32),
    "arrow": lambda values: pa.array(values, pa.int32()),
    "arrow list": lambda values: pa.array([values], pa.list_(pa.int32())),
    "arrow dictionary": lambda values: pa.array(values, pa.int32()).dictionary_encode(),
    "unsigned": lambda values: pa.array([None if value is None else abs(value) for value in values], pa.uint8()),
}


@pytest.mark.parametrize("build", INTEGERS.values(), ids=INTEGERS)
@pytest.mark.parametrize(
    ("repair", "wanted"),
    [
        ({"action": "impute", "strategy": "median"}, [3, 5, 3, 9, 1, 3, 3]),
        ({"action": "impute", "strategy": "most_frequent"}, [3, 5, 3, 9, 1, 3, 3]),
        ({"action": "impute", "strategy": "constant", "value": 4}, [3, 5, 4, 9, 1, 3, 4]),
        ({"action": "clip", "ge": 1.5, "le": 7.9}, [3, 5, None, 7, 2, 3, None]),
        ({"action": "clip", "ge": -1000, "le": 1e12}, [3, 5, None, 9, 1, 3, None]),
        ({"action": "clip", "quantiles": [0.2, 0.75]}, [3, 5, None, 5, 3, 3, None]),
    ],
)
def test_integers_stay_integers(build: Callable[[list[Any]], Any], repair: dict[str, Any], wanted: list[Any]) -> None:
    values = [3, 5, None, 9, 1, 3, None]
    data = build(values)
    if isinstance(data, np.ndarray):
        data = data[data > 0]
        wanted = [number for number, value in zip(wanted, values, strict=True) if value is not None]
    batch, plan = batch_of(x=data), parse_plan([repair])
    repaired, _ = apply(batch, plan, Schema(), learn(batch, plan, Schema()))
    (column,) = repaired.columns
    assert_same_form(column.data, data)
    found = column.data.tolist() if isinstance(data, np.ndarray) else column.data.to_pylist()
    assert (found[0] if isinstance(found[0], list) else found) == wanted


TEXTS = {
    "string": lambda values: pa.array(values, pa.string()),
    "large string": lambda values: pa.array(values, pa.large_string()),
    "string view": lambda values: pa.array(values, pa.string_view()),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
    "list": lambda values: pa.array([values], pa.list_(pa.string())),
    "numpy masked": lambda values: np.ma.MaskedArray(
        [value or "" for value in values], mask=[value is None for value in values]
    ),
}


@pytest.mark.parametrize("build", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    ("repair", "wanted"),
    [
        ({"action": "impute", "strategy": "constant", "value": "??"}, ["b", "a", "??", "a", "b"]),
        ({"action": "impute", "strategy": "most_frequent"}, ["b", "a", "a", "a", "b"]),
        ({"action": "impute", "strategy": "constant", "value": "a", "codes": "DC205"}, ["a", "a", None, "a", "a"]),
    ],
)
def test_texts_are_imputed(build: Callable[[list[Any]], Any], repair: dict[str, Any], wanted: list[Any]) -> None:
    data = build(["b", "a", None, "a", "b"])
    schema = Schema(fields={"x": Field(isin=("a", "??"), nullable=True)})
    batch, plan = batch_of(x=data), parse_plan([repair])
    if isinstance(data, np.ndarray) and "??" in wanted:
        with pytest.raises(CleaningError, match="too long for dtype"):
            apply(batch, plan, schema)
        return
    repaired, _ = apply(batch, plan, schema, learn(batch, plan, Schema()))
    (column,) = repaired.columns
    assert_same_form(column.data, data)
    found = column.data.tolist() if isinstance(data, np.ndarray) else column.data.to_pylist()
    assert (found[0] if isinstance(found[0], list) else found) == wanted


def test_a_dictionary_keeps_what_it_had_and_grows_only_for_a_new_value() -> None:
    data = pa.DictionaryArray.from_arrays(
        pa.array([1, None, 0], pa.int8()), pa.array(["x", "y", "unused"]), ordered=True
    )
    known, _ = apply(
        batch_of(x=data), parse_plan([{"action": "impute", "strategy": "constant", "value": "unused"}]), Schema()
    )
    assert known.columns[0].data.dictionary.equals(data.dictionary)
    assert known.columns[0].data.to_pylist() == ["y", "unused", "x"]
    new, _ = apply(batch_of(x=data), parse_plan([{"action": "impute", "strategy": "constant", "value": "z"}]), Schema())
    assert new.columns[0].data.dictionary.to_pylist() == ["x", "y", "unused", "z"]
    assert new.columns[0].data.type == data.type

    full = pa.DictionaryArray.from_arrays(pa.array([None], pa.int8()), pa.array([str(i) for i in range(128)]))
    with pytest.raises(CleaningError, match="its dictionary is full: int8 has no index left"):
        apply(batch_of(x=full), parse_plan([{"action": "impute", "strategy": "constant", "value": "z"}]), Schema())


def test_booleans_are_imputed() -> None:
    data = pa.array([True, None, True, False])
    batch, plan = batch_of(x=data), parse_plan([{"action": "impute", "strategy": "most_frequent"}])
    repaired, counts = apply(batch, plan, Schema(), learn(batch, plan, Schema()))
    assert repaired.columns[0].data.equals(pa.array([True, True, True, False]))
    assert counts == [RepairCount(0, "impute", "x", "DC104", 1)]


def test_a_complex_number_is_repaired_by_its_parts_as_numpy_does() -> None:
    data = np.array([complex(1, NAN), complex(INF, 2), complex(NAN, -INF), 3 + 4j], np.complex64)[::1]
    repaired, _ = apply(
        batch_of(x=data), parse_plan([{"action": "nan_to_num", "nan": 0, "posinf": 9, "neginf": -9}]), Schema()
    )
    assert repaired.columns[0].data.tolist() == np.nan_to_num(data, nan=0, posinf=9, neginf=-9).tolist()
    assert np.isnan(data[0])


def test_integers_that_hold_bfloat16_are_repaired_as_bfloat16() -> None:
    data = np.array([1.0, NAN, 3.0], ml_dtypes.bfloat16).view(np.uint16)
    schema = Schema(fields={"x": Field(dtype="bfloat16")})
    batch, plan = batch_of(x=data), parse_plan([{"action": "impute", "strategy": "mean"}])
    repaired, _ = apply(batch, plan, schema, learn(batch, plan, schema))
    assert repaired.columns[0].data.dtype == np.uint16
    assert repaired.columns[0].data.view(ml_dtypes.bfloat16).tolist() == [1.0, 2.0, 3.0]


def test_each_rule_sees_what_the_rules_before_it_made() -> None:
    data = np.array([NAN, 2, 4, 100, INF], np.float32)
    plan = parse_plan(
        [
            {"action": "nan_to_num", "posinf": 6},
            {"action": "clip", "le": 10},
            {"action": "impute", "strategy": "mean"},
            {"action": "clip", "quantiles": [0, 0.5]},
        ]
    )
    batch = batch_of(x=data)
    statistics = learn(batch, plan, Schema())
    assert [entry.values for entry in statistics.learned] == [((5.5,),), ((2.0, 5.5),)]
    repaired, counts = apply(batch, plan, Schema(), statistics)
    assert repaired.columns[0].data.tolist() == [5.5, 2, 4, 5.5, 5.5]
    assert [(count.rule, count.code, count.num_values) for count in counts] == [
        (0, "DC102", 1),
        (1, None, 1),
        (2, "DC101", 1),
        (3, None, 2),
    ]


PER_FEATURE = {
    "c order": np.ascontiguousarray,
    "fortran order": np.asfortranarray,
    "fixed-shape tensor": lambda array: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array)),
    "nested fixed-size list": lambda array: pa.array(array.tolist(), pa.list_(pa.list_(pa.float32(), 3), 2)),
}


@pytest.mark.parametrize("build", PER_FEATURE.values(), ids=PER_FEATURE)
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_each_feature_may_have_its_own_statistic(build: Callable[[Any], Any], strategy: str) -> None:
    generator = np.random.default_rng(3)
    array = (generator.integers(0, 6, (40, 2, 3)) * [1.0, 100.0, 0.25]).astype(np.float32)
    array[generator.random(array.shape) < 0.2] = NAN
    columns = array.reshape(-1, 3)
    fills = [fill_of(column[~np.isnan(column)].astype(np.float64), {"strategy": strategy}) for column in columns.T]
    wanted = np.where(np.isnan(array), np.array(fills, np.float32), array)

    batch = batch_of(x=build(array))
    plan = parse_plan([{"action": "impute", "strategy": strategy, "per_feature": True, "indicator": True}])
    repaired, _ = apply(batch, plan, Schema(), learn(batch, plan, Schema()))
    assert same_values(flat(repaired.columns[0].data), wanted.ravel().tolist())
    missing = repaired.columns[1].data
    if isinstance(missing, np.ndarray):
        assert np.array_equal(missing, np.isnan(array))
    else:
        assert missing.to_pylist() == np.isnan(array).any(axis=(1, 2)).tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_each_feature_may_be_clipped_to_its_own_quantiles(order: Any) -> None:
    array = np.array(np.random.default_rng(4).standard_normal((50, 4, 2)) * [1, 1000], np.float32, order=order)
    array[3] = NAN
    columns = array.reshape(-1, 2).astype(np.float64)
    lower, upper = np.nanquantile(columns, [0.25, 0.5], axis=0).astype(np.float32)
    batch, plan = batch_of(x=array), parse_plan([{"action": "clip", "quantiles": [0.25, 0.5], "per_feature": True}])
    repaired, _ = apply(batch, plan, Schema(), learn(batch, plan, Schema()))
    np.testing.assert_array_equal(repaired.columns[0].data, np.clip(array, lower, upper))


def test_features_need_one_shape_and_the_number_that_was_learned() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "mean", "per_feature": True}])
    for data in (np.zeros(3, np.float32), pa.array([[1.0], [2.0, 3.0]])):
        with pytest.raises(CleaningError, match="per_feature needs rows of one shape, and rows of 'x"):
            learn(batch_of(x=data), plan, Schema())
    statistics = learn(batch_of(x=np.zeros((3, 2))), plan, Schema())
    with pytest.raises(CleaningError, match="'x' has 5 features here, but the statistics were learned from 2"):
        apply(batch_of(x=np.zeros((3, 5))), plan, Schema(), statistics)


def test_a_clean_batch_is_the_same_batch() -> None:
    batch = batch_of(x=np.ones(10_000, np.float32), y=pa.array([1.0] * 10_000), z=pa.array([[1.0]] * 10_000))
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": 0}, {"action": "clip", "ge": 0, "le": 2}])
    repaired, counts = apply_repairs(batch, plan, Schema())
    assert repaired is batch
    assert counts == []


def test_only_touched_columns_are_copied_and_maps_of_files_stay_as_they_are(tmp_path: Any) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([1, NAN], np.float32))
    mapped, clean = np.load(path, mmap_mode="r"), np.ones(2)
    repaired, _ = apply(batch_of(x=mapped, y=clean), parse_plan([{"action": "nan_to_num", "nan": 0}]), Schema())
    assert repaired.columns[0].data.tolist() == [1, 0]
    assert repaired.columns[1].data is clean
    assert np.isnan(np.load(path)[1])


def test_indicators_come_last_in_the_shape_of_their_arrays_with_or_without_missing_values() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": 0, "indicator": "{field}_gone"}])
    array = np.asfortranarray([[1, NAN], [NAN, NAN], [5, 6]])
    batch = batch_of(
        a=array, b=pa.array([[1.0, None], None, []]), c=np.ones(3, np.float32), d=pa.array([None, 1, None])
    )
    repaired, _ = apply(batch, plan, Schema())
    assert repaired.names == ["a", "b", "c", "d", "a_gone", "b_gone", "c_gone", "d_gone"]
    a, b, c, d = (column.data for column in repaired.columns[4:])
    np.testing.assert_array_equal(a, np.isnan(array))
    assert b.to_pylist() == [True, False, False]
    assert c.tolist() == [False] * 3
    assert d.to_pylist() == [True, False, True]

    empty = batch.take(np.empty(0, np.int64))
    assert apply(empty, plan, Schema())[0].names == repaired.names


def test_an_indicator_outlives_its_field() -> None:
    plan = parse_plan(
        [
            {"action": "impute", "strategy": "constant", "value": 0, "indicator": True},
            {"action": "drop_field", "fields": "x"},
        ]
    )
    batch = batch_of(x=np.array([1, NAN]))
    repaired, _ = apply_repairs(batch, plan, Schema())
    assert repaired.names == ["x", "x_missing"]
    assert drop_fields(repaired, plan).names == ["x_missing"]
    assert apply(batch, plan, Schema())[0].names == ["x_missing"]


@pytest.mark.parametrize(
    ("data", "rule", "message"),
    [
        (
            pa.array([1, None]),
            {"strategy": "mean"},
            "1 value of 'x' (DC104) cannot be repaired: a mean would change its dtype",
        ),
        (
            pa.array(["a", None]),
            {"strategy": "median"},
            "1 value of 'x' (DC104) cannot be repaired: string has no median",
        ),
        (pa.array([True, None]), {"strategy": "constant", "value": 0}, "0 would change its dtype, bool"),
    ],
)
def test_a_rule_for_all_fields_fails_only_where_there_is_something_that_it_cannot_repair(
    data: pa.Array, rule: dict[str, Any], message: str
) -> None:
    plan = parse_plan([{"action": "impute", **rule}])
    whole = batch_of(x=data.slice(0, 1))
    statistics = learn(whole, plan)
    assert apply_repairs(whole, plan, Schema(), statistics)[0] is whole
    with pytest.raises(CleaningError) as caught:
        apply(batch_of(x=data), plan, Schema(), statistics)
    assert message in str(caught.value)
    with pytest.raises(CleaningError) as caught:
        Learner(plan, Schema()).learn(batch_of(x=data))
    assert message in str(caught.value)


def test_null_lists_are_never_imputed_in_silence() -> None:
    batch = batch_of(x=pa.array([[1.0], None]))
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": 0}])
    with pytest.raises(CleaningError, match=r"1 null in 'x' cannot be replaced, because a list"):
        apply(batch, plan, Schema(fields={"x": Field()}))
    assert apply_repairs(batch, plan, Schema(fields={"x": Field(nullable=True)}))[0] is batch
    assert (
        apply_repairs(batch, validate_plan(plan, leaf_dtypes(batch), Schema()), Schema(fields={"x": Field()}))[0]
        is batch
    )


def test_infinities_without_a_bound_to_move_to_are_an_error() -> None:
    plan = parse_plan([{"action": "clip", "codes": ["DC102", "DC202"]}])
    schema = Schema(fields={"x": Field(ge=0)})
    assert apply_repairs(batch_of(x=np.array([1.0, 2.0])), plan, schema)[1] == []
    with pytest.raises(CleaningError, match=r"'x' has infinities \(DC102\) but no upper bound to clip them to"):
        apply(batch_of(x=np.array([1.0, INF])), plan, schema)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "float8_e5m2", "int8"])
def test_exclusive_bounds_are_moved_to_the_nearest_value_inside(dtype: str) -> None:
    storage = np.dtype(getattr(ml_dtypes, dtype, dtype))
    data = np.array([-5, 0, 1, 2, 7], np.float32).astype(storage)
    schema = Schema(fields={"x": Field(gt=0, lt=2)})
    repaired, _ = apply(batch_of(x=data), parse_plan([{"action": "clip"}]), schema)
    values = repaired.columns[0].data
    tiny = 1 if dtype == "int8" else np.nextafter(storage.type(0), storage.type(1))
    below_two = 1 if dtype == "int8" else np.nextafter(storage.type(2), storage.type(0))
    assert values.tolist() == np.array([tiny, tiny, 1, below_two, below_two], storage).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_what_is_clipped_to_the_schema_passes_its_bounds(dtype: str) -> None:
    from datacheck.checks.bounds import violation_mask

    storage = np.dtype(getattr(ml_dtypes, dtype, dtype))
    data = np.linspace(-1, 1, 999, dtype=np.float32).astype(storage)
    schema = Schema(fields={"x": Field(ge=-0.1, lt=0.3)})
    repaired, _ = apply(batch_of(x=data), parse_plan([{"action": "clip"}]), schema)
    (leaf,) = repaired.columns[0].leaves()
    assert not any(violation_mask(leaf, code, schema.fields["x"]).any() for code in ("DC201", "DC204"))
    inside = (data.astype(np.float32) >= np.float32(-0.1)) & (data.astype(np.float32) < np.float32(0.25))
    assert np.array_equal(repaired.columns[0].data[inside], data[inside])


def test_statistics_of_other_rules_are_refused() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "mean"}])
    other = parse_plan([{"action": "impute", "strategy": "median"}])
    batch = batch_of(x=np.array([1.0, NAN]))
    with pytest.raises(CleaningError, match="learned for different cleaning rules; run 'datacheck fit' again"):
        apply(batch, plan, Schema(), learn(batch, other, Schema()))
    with pytest.raises(CleaningError, match="no statistics for 'x'; run 'datacheck fit'"):
        apply(batch, plan, Schema())


def test_a_field_that_was_not_there_when_learning_is_an_error() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "mean"}])
    statistics = learn(batch_of(x=np.ones(3)), plan, Schema())
    with pytest.raises(CleaningError, match="no statistics for 'y'"):
        apply(batch_of(y=np.ones(3)), plan, Schema(), statistics)


def test_columns_that_share_a_name_are_repaired_each_by_itself() -> None:
    batch = Batch((Column("x", np.array([NAN, 1])), Column("x", np.array([2, NAN]))), 2)
    plan = parse_plan([{"action": "nan_to_num", "nan": 0}])
    repaired, _ = apply(batch, plan, Schema())
    assert [column.data.tolist() for column in repaired.columns] == [[0, 1], [2, 0]]

    twice = pa.StructArray.from_arrays([pa.array([NAN, 1]), pa.array([2, NAN])], names=["a", "a"])
    repaired, _ = apply(batch_of(x=twice), plan, Schema())
    assert [child.to_pylist() for child in repaired.columns[0].data.flatten()] == [[0, 1], [2, 0]]


def test_what_cannot_be_looked_into_is_left_to_the_checks() -> None:
    batch = batch_of(x=np.array([object(), None], object))
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": 0}])
    assert apply_repairs(batch, plan, Schema())[0] is batch


def test_nulls_that_the_schema_allows_need_no_repair_where_none_can_be_done() -> None:
    batch = batch_of(tail=pa.array(["N1", None]), x=np.array([NAN, 2]))
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": 1}])
    repaired, _ = apply(batch, plan, Schema(fields={"tail": Field(nullable=True)}))
    assert repaired.columns[0] is batch.columns[0]
    assert repaired.columns[1].data.tolist() == [1, 2]
    for schema in (Schema(), Schema(fields={"tail": Field()})):
        with pytest.raises(CleaningError, match="'tail'"):
            apply(batch, plan, schema)


def test_a_column_keeps_the_dtype_that_its_source_says() -> None:
    bits = np.array([1.0, NAN], ml_dtypes.bfloat16).view(np.uint16)
    batch = Batch((Column("x", bits, dtype="bfloat16"),), 2)
    repaired, _ = apply(batch, parse_plan([{"action": "nan_to_num", "nan": 5}]), Schema())
    assert repaired.columns[0].dtype == "bfloat16"
    assert repaired.columns[0].data.view(ml_dtypes.bfloat16).tolist() == [1, 5]


def test_a_single_value_is_one_row() -> None:
    batch = Batch((Column(None, np.array(NAN)),), 1)
    repaired, _ = apply(batch, parse_plan([{"action": "nan_to_num", "nan": 5}]), Schema())
    assert repaired.columns[0].data.shape == ()
    assert repaired.columns[0].data == 5
