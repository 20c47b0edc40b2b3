"""Rules about a dataset are exact: whatever units it is split into, and however these are merged, they agree with pandas."""

from __future__ import annotations

import datetime
import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.batch import Batch, Column
from datacheck.dataset_rules import groups
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules
from datacheck.dataset_rules.groups import group_equal
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.schema.loading import parse_schema

Columns = dict[str, Any]


def outcomes(schema: dict[str, Any], columns: Columns, draw: Any, num_files: int = 3) -> list[DatasetOutcome]:
    """What the rules find in columns that are split at random into files, units and batches, merged in a random order.

    States are sent to other processes, or saved and read again, in which case they only know examples of rows.
    """
    rules = build_dataset_rules(parse_schema(schema, "schema"))
    num_rows = len(next(iter(columns.values())))
    cuts = sorted({0, num_rows, *draw(st.lists(st.integers(0, num_rows), max_size=6))})
    files = sorted(draw(st.lists(st.integers(0, num_files - 1), min_size=len(cuts), max_size=len(cuts))))
    is_saved = draw(st.booleans())
    states: list[DatasetState] = []
    for start, stop, file in zip(cuts, [*cuts[1:], num_rows], files, strict=True):
        part = Part(f"file{file}", keep_rows=not is_saved)
        state = DatasetState.start(rules, part)
        middle = draw(st.integers(start, stop))
        for first, last in ((start, middle), (middle, stop)):
            batch = tuple(Column(name, values[first:last]) for name, values in columns.items())
            lines = line_of(np.arange(first, last))
            state.update(Batch(batch, last - first, first, row_group=7, lines=lines))
        if is_saved:
            (state,) = decode(encode([state], References()), References(rules=rules))
        elif draw(st.booleans()):
            state = pickle.loads(pickle.dumps(state))
        states.append(state)
    while len(states) > 1:
        left = draw(st.integers(0, len(states) - 2))
        states[left].merge(states.pop(left + 1))
    found = states[0].outcomes(Context(tuple(f"file{number}" for number in range(num_files))))
    states[0].close()
    shown = [example for one in found for example in one.finding.examples if example.row is not None]
    assert all(example.line == line_of(example.row) for example in shown)
    return found


def line_of(row: Any) -> Any:
    """The line of a text file on which a row begins: some rows have several lines."""
    return 2 + row + row // 3


def assert_rows(found: Sequence[DatasetOutcome], code: str, expected: list[int], num_shown: int = 5) -> None:
    """Exactly these rows are at fault, and some of them are examples."""
    assert count_of(found, code) == len(expected)
    some = [one for one in found if one.finding.code == code]
    rows = [row for one in some if one.rows is not None for row in one.rows.tolist()]
    assert not rows or sorted(rows) == expected
    shown = sorted(example.row for one in some for example in one.finding.examples if example.row is not None)
    assert set(shown) <= set(expected)
    assert len(shown) >= min(num_shown, len(expected))


def count_of(found: Sequence[DatasetOutcome], code: str) -> int:
    return sum(one.finding.num_violations for one in found if one.finding.code == code)


TIMES = st.lists(st.tuples(st.sampled_from("ab\0"), st.integers(-3, 6) | st.none()), max_size=30)


@given(TIMES, st.sampled_from(["int64", "float32", "timestamp[s]", "date32"]), st.data())
@settings(max_examples=40, deadline=None)
def test_steps_and_order_within_groups_agree_with_pandas(rows: list[Any], kind: str, data: st.DataObject) -> None:
    series = pa.array([name for name, _ in rows], pa.string())
    numbers = [None if value is None else value for _, value in rows]
    times = pa.array(numbers, pa.int32() if kind == "date32" else pa.int64() if kind != "float32" else pa.float32())
    times = times.view(pa.date32()) if kind == "date32" else times.cast(pa.type_for_alias(kind))
    step = {"timestamp[s]": "1s", "date32": "1d"}.get(kind, 1)
    order = data.draw(st.sampled_from(["increasing", "strictly_increasing", "decreasing", "strictly_decreasing"]))
    schema = {"sequence": {"by": "series", "on": "time", "step": step, "order": order}}
    found = outcomes(schema, {"series": series, "time": times}, data.draw)
    frame = pd.DataFrame({"series": [name for name, _ in rows], "time": pd.array(numbers, "Int64")})
    present = frame.dropna()
    difference = present.groupby("series").time.diff().dropna()
    assert_rows(found, "DC320", difference.index[difference != 1].tolist())
    passes = {
        "increasing": difference >= 0,
        "strictly_increasing": difference > 0,
        "decreasing": difference <= 0,
        "strictly_decreasing": difference < 0,
    }[order]
    assert_rows(found, "DC319", difference.index[~passes].tolist())


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 5), st.data())
@settings(max_examples=30, deadline=None)
def test_sizes_and_contiguity_of_groups_agree_with_pandas(keys: list[int], least: int, data: st.DataObject) -> None:
    rule = {"by": "k", "num_rows": {"ge": least}, "contiguous": True}
    found = outcomes({"sequence": rule}, {"k": np.array(keys, np.int64)}, data.draw)
    sizes = pd.Series(keys, dtype=np.int64).value_counts()
    assert count_of(found, "DC322") == int((sizes < least).sum())
    broken = [row for row in range(1, len(keys)) if keys[row] != keys[row - 1] and keys[row] in keys[:row]]
    assert_rows(found, "DC321", broken)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=12), st.integers(-(2**64), 2**64), st.data())
@settings(max_examples=30, deadline=None)
def test_differences_of_large_integers_do_not_overflow(values: list[int], bound: int, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["ge", "gt", "le", "lt"]))
    found = outcomes({"sequence": {"on": "x", "step": {name: bound}}}, {"x": np.array(values, np.int64)}, data.draw)
    passes = {"ge": int.__ge__, "gt": int.__gt__, "le": int.__le__, "lt": int.__lt__}[name]
    differences = [after - before for before, after in pairwise(values)]
    assert_rows(found, "DC320", [row + 1 for row, value in enumerate(differences) if not passes(value, bound)])


FLOATS = st.lists(
    st.floats(width=64) | st.floats(-5, 5, width=16) | st.sampled_from([0.0, -0.0, 1e200, -1e200, math.nan]),
    max_size=25,
)


@given(FLOATS, st.sampled_from(["float64", "float32", "float16"]), st.data())
@settings(max_examples=40, deadline=None)
def test_statistics_agree_with_exact_arithmetic(values: list[float], dtype: str, data: st.DataObject) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values, np.float64).astype(dtype)
    finite = array[np.isfinite(array)].astype(np.float64)
    exact = [Fraction(value) for value in finite.tolist()]
    bound = float(np.dtype(dtype).type(data.draw(st.sampled_from([-1.0, 0.0, 0.5, 2.0, *finite.tolist()[:3]]))))
    quantile = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    field = {"mean": {"le": bound}, "std": {"le": abs(bound)}, "quantiles": {quantile: {"ge": bound}}}
    field |= {"share": {"nan": 0.1, "zero": {"gt": 0.2}, "0.5": 0.25}, "allow_nan": True}
    names = {one.finding.rule for one in outcomes({"fields": {"x": field}}, {"x": array}, data.draw)}
    if not len(array):
        assert names == set()
        return
    mean = sum(exact) / len(exact) if exact else None
    assert ("mean" in names) is bool(mean is None or mean > Fraction(bound))
    variance = None
    if mean is not None and len(exact) > 1:
        variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    assert ("std" in names) is bool(variance is None or variance > Fraction(bound) ** 2)
    lowest = np.quantile(finite, quantile, method="inverted_cdf") if len(finite) else None
    assert (f"quantile {quantile}" in names) is bool(lowest is None or lowest < bound)
    assert ("share of nan" in names) is bool(np.isnan(array).sum() * 10 > len(array))
    assert ("share of zero" in names) is not bool((finite == 0).sum() * 5 > len(array))
    assert ("share of 0.5" in names) is bool((finite == 0.5).sum() * 4 > len(array))


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20), st.data())
@settings(max_examples=30, deadline=None)
def test_shares_of_classes_and_nulls_agree_with_pandas(values: list[str | None], data: st.DataObject) -> None:
    array = pa.array(values, pa.string())
    array = array.dictionary_encode() if data.draw(st.booleans()) else array
    schema = {"fields": {"x": {"nullable": True, "share": {"a": {"ge": "50%"}, "null": "25%"}}}}
    names = {one.finding.rule for one in outcomes(schema, {"x": array}, data.draw)}
    present = [value for value in values if value is not None]
    assert ("share of a" in names) is bool(bool(values) and present.count("a") * 2 < max(1, len(present)))
    assert ("share of null" in names) is bool(values.count(None) * 4 > len(values))


VALUES = {
    "int64": st.integers(-2, 3),
    "float32": st.sampled_from([0.0, -0.0, 0.1, 1.5, math.nan]),
    "string": st.sampled_from(["", "a", "b", "c"]),
    "bool": st.booleans(),
}
MEMBERS: dict[str, list[Any]] = {"int64": [0, 3], "float32": [0, 0.1], "string": ["a", "b"], "bool": [True, False]}


@given(st.sampled_from(sorted(VALUES)), st.integers(1, 4), st.integers(1, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_different_values_agree_with_pandas(kind: str, least: int, most: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[kind] | st.none(), max_size=25))
    field: dict[str, Any] = {"max_distinct": max(least, most), "min_distinct": least, "nullable": True}
    if len(MEMBERS[kind]) <= max(least, most):
        field["covers"] = MEMBERS[kind]
    field["checks"] = {"unique_values_eq": MEMBERS[kind]}
    array = pa.array(values, pa.type_for_alias(kind))
    found = {one.finding.rule: one.finding for one in outcomes({"fields": {"x": field}}, {"x": array}, data.draw)}
    series = pd.Series([value + 0 if isinstance(value, float) else value for value in array.to_pylist()], dtype=object)
    distinct = series.dropna().unique().tolist()
    assert ("min_distinct" in found) is bool(len(distinct) < least)
    assert ("max_distinct" in found) is bool(len(distinct) > max(least, most))
    if "max_distinct" in found:
        exceeding = distinct[max(least, most)]
        assert found["max_distinct"].examples[0].row == series[series == exceeding].index[0]
    members = np.array(MEMBERS[kind], object if kind == "string" else kind).tolist()
    absent = [member for member in members if member not in distinct]
    assert ("covers" in found) is bool(absent)
    if absent:
        assert found["covers"].num_violations == len(absent)
    others = [value for value in series.dropna() if value not in members]
    assert ("unique_values_eq" in found) is bool(others)
    if others:
        assert found["unique_values_eq"].num_violations == len(others)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=12), st.data())
@settings(max_examples=10, deadline=None)
def test_the_newest_time_is_that_of_the_whole_dataset(days: list[int], data: st.DataObject) -> None:
    start = datetime.datetime(2024, 1, 1)
    times = pa.array([start + datetime.timedelta(days=day) for day in days], pa.timestamp("us"))
    found = outcomes({"fields": {"t": {"max_age": "30d"}}}, {"t": times}, data.draw)
    assert [one.finding.code for one in found] == ["DC326"]
    assert found[0].finding.examples[0].row == days.index(max(days))


def test_groups_beyond_the_memory_bound_are_spilled_and_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    keys, times = rng.integers(0, 3000, 40_000), rng.integers(0, 5, 40_000)
    schema = {
        "sequence": {"by": "k", "on": "t", "step": {"ge": -2, "le": 2}, "num_rows": {"le": 14}, "contiguous": True}
    }
    rules = build_dataset_rules(parse_schema(schema, "schema"))

    def judge() -> list[Any]:
        whole = DatasetState.start(rules, Part("f", keep_rows=True))
        for start in range(0, len(keys), 999):
            state = DatasetState.start(rules, Part("f", keep_rows=True))
            columns = (Column("k", keys[start : start + 999]), Column("t", times[start : start + 999]))
            state.update(Batch(columns, len(columns[0]), start))
            whole.merge(state)
        found = whole.outcomes(Context(("f",)))
        whole.close()
        return [(one.finding, None if one.rows is None else one.rows.tolist()) for one in found]

    in_memory = judge()
    monkeypatch.setattr(groups, "SPILL_BYTES", 10_000)
    monkeypatch.setattr(groups, "_PENDING_ROWS", 1000)
    assert judge() == in_memory
    assert {finding.code for finding, _ in in_memory} == {"DC320", "DC321", "DC322"}


PAIRS = st.lists(st.tuples(st.sampled_from(["x", "y", "z", None]), st.integers(0, 2) | st.none()), max_size=30)


@given(PAIRS, st.data())
@settings(max_examples=50, deadline=None)
def test_rows_that_contradict_the_first_of_their_key_are_those_that_a_loop_finds(
    rows: list[Any], data: st.DataObject
) -> None:
    columns = {
        "text": pa.array([text for text, _ in rows], pa.string()),
        "label": pa.array([b for _, b in rows], pa.int8()),
    }
    found = outcomes({"determines": {"text": "label"}}, columns, data.draw)
    first: dict[str, int] = {}
    expected = []
    for row, (text, label) in enumerate(rows):
        if text is not None and label is not None and first.setdefault(text, label) != label:
            expected.append(row)
    assert_rows(found, "DC327", expected, num_shown=1)


@given(PAIRS, st.lists(st.integers(0, 2), max_size=3), st.data())
@settings(max_examples=40, deadline=None)
def test_rows_whose_key_is_not_in_the_other_file_are_found(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], known: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("keys") / "items.parquet"
    pq.write_table(pa.table({"id": pa.array(known, pa.int64())}), path)
    schema = {"references": {"fields": "item", "file": str(path), "keys": "id"}}
    found = outcomes(schema, {"item": pa.array([item for _, item in rows], pa.int32())}, data.draw)
    missing = [row for row, (_, item) in enumerate(rows) if item is not None and item not in known]
    assert_rows(found, "DC328", missing, num_shown=1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30), st.sampled_from([1, 1 << 27]), st.data())
@settings(max_examples=50, deadline=None)
def test_keys_of_splits_are_compared_as_sets(rows: list[Any], spill_bytes: int, data: st.DataObject) -> None:
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(groups, "SPILL_BYTES", spill_bytes)
        patched.setattr(groups, "_PENDING_ROWS", 3)
        keys, time = np.array([key for key, _ in rows], np.int64), np.array([at for _, at in rows], "M8[D]")
        schema = {"splits": {"apart": "k", "within": "k", "time": {"on": "t", "gap": "2d"}}}
        cut = sorted((data.draw(st.integers(0, len(rows))), data.draw(st.integers(0, len(rows)))))
        parts = {"train": slice(0, cut[0]), "val": slice(cut[0], cut[1]), "test": slice(cut[1], len(rows))}
        order = data.draw(st.permutations(list(parts)))
        rules = build_dataset_rules(parse_schema(schema, "schema"))
        whole = None
        for name in order:
            part = Part(f"{name}.parquet", name, keep_rows=data.draw(st.just(True)))
            state = DatasetState.start(rules, part)
            chosen = parts[name]
            size = len(keys[chosen])
            state.update(Batch((Column("k", keys[chosen]), Column("t", time[chosen])), size, chosen.start))
            whole = whole or state
            if whole is not state:
                whole.merge(state)
        assert whole is not None
        found = whole.outcomes(Context(tuple(f"{name}.parquet" for name in order)))
        whole.close()
    sets = {name: set(keys[chosen].tolist()) for name, chosen in parts.items()}
    present = [name for name in order if sets[name]]
    ranked = sorted(present, key=lambda name: (name != "train", order.index(name)))
    if "train" not in present or len(present) < 2:
        assert {one.finding.code for one in found} <= {"DC315", "DC314", "DC329"}
        return
    shared, new = [], []
    for rank, name in enumerate(ranked):
        earlier = set().union(*(sets[one] for one in ranked[:rank]))
        for row in range(parts[name].start, parts[name].stop):
            shared += [row] if keys[row] in earlier else []
            new += [row] if name != "train" and keys[row] not in sets["train"] else []
    assert_rows(found, "DC329", sorted(shared))
    assert_rows(found, "DC314", sorted(new))
    end = time[parts["train"]].max()
    late = [name for name in ranked[1:] if time[parts[name]].min() - end < np.timedelta64(2, "D")]
    assert sorted(one.finding.uri for one in found if one.finding.code == "DC330") == sorted(
        f"{name}.parquet" for name in late
    )


@given(
    st.lists(st.sampled_from(["a", "A", " a", "a b", "A  B", "b", ""]) | st.none(), min_size=1, max_size=40), st.data()
)
@settings(max_examples=40)
def test_variants_of_a_category_are_found(texts: list[str | None], data: Any) -> None:
    found = outcomes(
        {"fields": {"x": {"no_variants": True, "nullable": True}}}, {"x": pa.array(texts, pa.string())}, data.draw
    )
    counts = pd.Series([text for text in texts if text is not None], dtype=object).value_counts()
    groups = counts.groupby(lambda text: " ".join(text.split()).casefold())
    expected = sum(int(group.sum() - group.max()) for _, group in groups)
    assert count_of(found, "DC331") == expected
    if expected:
        (one,) = found
        first = one.finding.examples[0]
        assert (one.finding.num_checked, texts[first.row or 0]) == (counts.sum(), first.value)


def test_too_many_texts_are_no_category() -> None:
    texts = pa.array([f"text {number}" for number in range(1 << 15)])
    (finding,) = datacheck.scan(pa.table({"x": texts}), {"fields": {"x": {"no_variants": True}}}).findings
    assert (finding.code, "more than 16,384 different texts" in finding.detail) == ("DC005", True)


@pytest.mark.parametrize("num_groups", [1, 7, 1000, 9000])
@pytest.mark.parametrize("words", [1, 2, 3])
def test_rows_are_grouped_by_equal_keys_in_order(num_groups: int, words: int) -> None:
    generator = np.random.default_rng(num_groups)
    keys = generator.integers(0, 2**64, (num_groups, words), np.uint64)
    # Groups that differ in their last word only.
    keys[::5] = keys[0]
    keys[::5, -1] = np.arange(len(keys[::5]))
    keys = keys[generator.integers(0, num_groups, 10_000)]
    grouping = group_equal(keys)
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    found = grouping.group_of_rows()
    assert len(np.unique(np.stack([found, inverse.reshape(-1)]), axis=1).T) == len(grouping.starts) == inverse.max() + 1
    before, after = grouping.pairs()
    assert (before < after).all()
    assert (found[before] == found[after]).all()
