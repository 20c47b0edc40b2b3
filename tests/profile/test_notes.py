"""Notes: what they count agrees with NumPy over all of the data at once, and each thing that people met is noted."""

from __future__ import annotations

import datetime
import itertools
import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_files import run_command, write_table

import datacheck
from datacheck.batch import Batch, Column
from datacheck.findings import MAX_EXAMPLES, Finding
from datacheck.gate.checking import check
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.profile.notes.find import NOTE_OPTIONS
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.numbers import NUM_ENDS
from datacheck.profile.notes.row_lengths import RowLengths
from datacheck.profile.unit import profile_batches

RANDOM = np.random.default_rng(0)
CUTS = st.lists(st.integers(0, 60), max_size=3)
#: Values that repeat, so that the ends of the data have counts above one.
FLOATS = st.sampled_from([0.0, 1.0, -999.0, 3e38, -7e4]) | st.floats(-5, 5, width=32) | st.floats(width=32)


def notes_of(array: Any, cuts: list[int]) -> LeafNotes:
    """The notes on a column whose parts are units of their own, merged in order."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(array)}), len(array)]
    merged = LeafNotes()
    for start, stop in itertools.pairwise(bounds):
        batch = Batch((Column("x", array[start:stop]),), stop - start, start)
        for notes in profile_batches([batch], NOTE_OPTIONS).notes.values():
            notes.set_file("a")
            merged.merge(pickle.loads(pickle.dumps(notes)))
    return merged


def noted(data: Any) -> dict[str, str]:
    """The messages of the notes on data, by code; the first of each."""
    found: dict[str, str] = {}
    for finding in datacheck.find_notes(data):
        assert finding.severity == "info"
        found.setdefault(finding.code, finding.message)
    return found


@given(st.lists(FLOATS | st.none(), min_size=1, max_size=60), CUTS)
@settings(max_examples=40)
def test_the_ends_and_counts_of_numbers_are_exact_however_the_data_is_split(values: list[Any], cuts: list[int]) -> None:
    numbers = notes_of(pa.array(values, pa.float64()), cuts).numbers
    assert numbers is not None
    finite = {row: value for row, value in enumerate(values) if value is not None and np.isfinite(value)}
    counts = Counter(finite.values())
    assert (numbers.num_finite, numbers.num_zeros) == (len(finite), counts[0.0])
    assert [(value, tally.count) for value, tally in numbers.low] == sorted(counts.items())[:NUM_ENDS]
    assert [(value, tally.count) for value, tally in numbers.high] == sorted(counts.items())[: -NUM_ENDS - 1 : -1]
    for value, tally in itertools.chain(numbers.low, numbers.high):
        assert tally.examples[0].row == next(row for row, other in finite.items() if other == value)
    assert numbers.is_whole == all(value == np.floor(value) for value in finite.values())
    assert numbers.common.counts == (dict(counts) if len(counts) <= 20 else None)
    beyond = [row for row, value in finite.items() if abs(value) > 65504]
    assert numbers.overflows["float16"].count == len(beyond)
    assert [example.row for example in numbers.overflows["float16"].examples] == beyond[:5]


@given(st.lists(st.lists(st.sampled_from([0.0, 0.0, 1.0, np.nan]), max_size=9), min_size=1, max_size=40), CUTS)
@settings(max_examples=25)
def test_zero_and_constant_vectors_are_counted_exactly(rows: list[list[float]], cuts: list[int]) -> None:
    vectors = notes_of(pa.array(rows, pa.list_(pa.float32())), cuts).vectors
    expected = [row for row, values in enumerate(rows) if len(values) > 1 and not np.any(np.array(values) != 0)]
    constant = [row for row, values in enumerate(rows) if len(values) >= 8 and set(values) == {1.0}]
    if vectors is None:
        assert not any(rows)
        return
    assert vectors.num_vectors == sum(len(values) > 1 for values in rows)
    assert (vectors.zero.count, [example.row for example in vectors.zero.examples]) == (len(expected), expected[:5])
    assert vectors.constant.count == len(constant)


@given(st.integers(1, 30), st.integers(2, 5), st.integers(1, 3), CUTS, st.sampled_from("CF"))
@settings(max_examples=25)
def test_the_ranges_of_channels_are_those_of_numpy(
    rows: int, first: int, last: int, cuts: list[int], order: Any
) -> None:
    array = np.asarray(RANDOM.integers(0, 2, (rows, first, last)).astype(np.float32), order=order)
    vectors = notes_of(array, cuts).vectors
    assert vectors is not None
    assert vectors.zero.count == (~array.reshape(rows, -1).any(axis=1)).sum() * (first * last > 1)
    for axis, channels in (vectors.channels or {}).items():
        others = tuple(other for other in range(3) if other != axis + 1)
        assert np.array_equal(channels.low, array.min(axis=others))
        assert np.array_equal(channels.high, array.max(axis=others))


TEXTS = st.sampled_from(["", " ", "a", "a ", "b\x00", "\ufffd", "12", "long " * 60]) | st.none()


@given(st.lists(TEXTS, min_size=1, max_size=60), CUTS)
@settings(max_examples=25)
def test_texts_are_counted_exactly(values: list[str | None], cuts: list[int]) -> None:
    texts = notes_of(pa.array(values, pa.string()), cuts).texts
    present = [value for value in values if value is not None]
    if texts is None:
        assert not values
        return
    assert (texts.num_texts, texts.num_empty) == (len(present), present.count(""))
    assert texts.blank.count == sum(not value.strip() for value in present)
    assert texts.padded.count == sum(
        bool(value.strip()) and value != value.strip() and len(value) < 200 for value in present
    )
    assert texts.damaged.count == present.count("b\x00") + present.count("\ufffd")


def weather(num_missing: int, missing: float = -999.99) -> np.ndarray[Any, Any]:
    values = RANDOM.normal(15, 8, 5000).astype(np.float32)
    values[RANDOM.choice(5000, num_missing, replace=False)] = missing
    return values


@pytest.mark.parametrize(
    ("data", "code", "expected"),
    [
        ({"t": weather(450)}, "DC501", "450 of 5,000 values in 't' are -999.99, far below the others"),
        ({"t": weather(3, 1e20)}, "DC501", "3 of 5,000 values in 't' are 1e+20, far above"),
        (
            {"f": np.append(RANDOM.normal(0, 0.05, 5000), 40.0)},
            "DC502",
            "1 of 5,001 values in 'f' are far beyond the others: 40,",
        ),
        ({"x": [1.0, 4.2e39]}, "DC503", "1 of 2 values in 'x' become infinite in float32. As a rule: dtype: float32"),
        ({"x": [1.0, 7e4]}, "DC503", "1 of 2 values in 'x' become infinite in float16"),
        (
            pa.table({"t": pa.array([datetime.datetime(3018, 3, 7)] * 2, pa.timestamp("us"))}),
            "DC503",
            "2 of 2 values in 't' do not fit timestamp[ns]",
        ),
        ({"temp": np.full(500, 20.0)}, "DC504", "all 500 values in 'temp' are 20. As a rule: min_distinct: 2"),
        (
            {"speed": np.where(np.arange(20) == 11, 0, RANDOM.normal(50, 5, (288, 20)))},
            "DC504",
            "all 288 values in 'speed' are 0 at index 11 of the last axis",
        ),
        (
            {"speed": pa.array(np.where(np.arange(20) == 11, 0, RANDOM.normal(50, 5, (288, 20))).tolist())},
            "DC504",
            "all 288 values in 'speed[]' are 0 at index 11 of the last axis",
        ),
        (
            {"e": np.eye(5)[[0, 1, 2]] * [[1], [0], [1]]},
            "DC505",
            "1 of 3 vectors in 'e' are all zero. As a rule: expr: any(e != 0)",
        ),
        (
            {"y": np.repeat([-1.0, 0.0, 1.0], 40)},
            "DC506",
            "the 120 values in 'y' are only 3 different ones: -1 (40), 0 (40), 1 (40)",
        ),
        (
            {"y": np.repeat([0, 1, 3, 4], 40)},
            "DC507",
            "1 of 5 integers from 0 to 4 do not occur in 'y': 2. As a rule: covers, with",
        ),
        (
            {"y": np.repeat([0.0, 1.0, 3.0, 4.0, np.nan], 40)},
            "DC507",
            "1 of 5 integers from 0 to 4 do not occur in 'y': 2. As a rule: covers, with",
        ),
        (
            {"a": ["x", "", "y", "z", " "]},
            "DC508",
            "2 of 5 texts in 'a' are empty or blank. As a rule: not_blank: true",
        ),
        (
            {"a": ["fridge"] * 20 + ["fridge ", "Fridge"]},
            "DC509",
            "2 of 22 texts in 'a' are variants of others: 'Fridge' (1) of 'fridge' (20), 'fridge ' (1) of 'fridge' (20)",
        ),
        ({"a": ["good", "M\ufffdnchen"]}, "DC510", "1 of 2 texts in 'a' have U+FFFD or control characters"),
        ({"a": [f"{n},5" for n in range(20)]}, "DC511", "the texts in 'a' look like numbers with a decimal comma"),
        ({"a": [f"{n}.5" for n in range(20)]}, "DC511", "the texts in 'a' are numbers. As a rule: dtype: float64"),
        (
            {"a": ["Ada", "None", "Bob", "nan", "N/A"] + ["x"] * 5},
            "DC515",
            "3 of 10 texts in 'a' are words for a missing value. As a rule: missing: ['None', 'nan', 'N/A']",
        ),
        ({"x": np.zeros((80, 2)), "y": np.zeros(79)}, "DC513", "x has 80 rows, y has 79 rows, side by side"),
        (
            {"input_ids": [[5, 6, n] for n in range(50)], "my labels": [[1] * (3 - (n == 9)) for n in range(50)]},
            "DC513",
            "in 1 of 50 rows, the same length in all others. As a rule: expr: len(input_ids) == len(`my labels`)",
        ),
    ],
)
def test_what_looks_wrong_is_noted_with_the_rule_that_forbids_it(data: Any, code: str, expected: str) -> None:
    table = pa.table(data) if isinstance(data, dict) and any(isinstance(x, list) for x in data.values()) else data
    assert expected in noted(table)[code]


@pytest.mark.parametrize(
    "data",
    [
        {"x": RANDOM.normal(0, 1, 5000)},
        {"x": RANDOM.lognormal(0, 1, 5000)},
        {"n": RANDOM.integers(0, 1000, 5000)},
        {"n": RANDOM.integers(0, 10, 5000)},
        {"e": RANDOM.normal(0, 1, (500, 16)).astype(np.float32)},
        {"m": RANDOM.integers(0, 2, (50, 8, 8)).astype(np.uint8)},
        pa.table({"t": [f"text {n}" for n in range(500)], "zip": [f"0{n:04}" for n in range(500)]}),
        # Lists that are mostly, but not always, of one value each.
        pa.table(
            {name: [[n] * (1 + (n % size == 0)) for n in range(500)] for name, size in (("tags", 50), ("authors", 70))}
        ),
        pa.table({name: [[n] * (2 + n % size) for n in range(500)] for name, size in (("words", 5), ("scores", 7))}),
    ],
)
def test_usual_data_has_no_notes(data: Any) -> None:
    assert noted(data) == {}


def test_a_file_in_another_unit_is_noted(tmp_path: Path) -> None:
    for number in range(4):
        kelvin = RANDOM.normal(285, 8, 2000) - (273.15 if number == 3 else 0)
        write_table(tmp_path / f"model{number}.parquet", {"ts": kelvin, "year": np.full(2000, 2000 + number)})
    message = noted(tmp_path)["DC512"]
    assert message.startswith(
        "1 of 4 files differ from the others in 'ts': 'model3.parquet' has 90 % of the values in "
    )


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_a_file_in_another_scale_around_the_same_middle_is_noted(tmp_path: Path, factor: float) -> None:
    for number in range(5):
        write_table(tmp_path / f"{number}.parquet", {"a": RANDOM.normal(0, factor if number == 4 else 1, 200)})
    assert noted(tmp_path)["DC512"].startswith("1 of 5 files differ from the others in 'a': '4.parquet' has 90 %")


def test_a_short_last_file_does_not_differ(tmp_path: Path) -> None:
    for number in range(5):
        rows = 4 if number == 4 else 1000
        columns = {"t": number * 1000 + np.arange(float(rows)), "u": RANDOM.uniform(0, 1 if number else 10, rows)}
        write_table(tmp_path / f"{number}.parquet", columns)
    assert "DC512" not in noted(tmp_path)


def test_files_of_different_months_do_not_differ(tmp_path: Path) -> None:
    for month in range(1, 13):
        write_table(tmp_path / f"{month}.parquet", {"month": np.full(50, month), "x": RANDOM.normal(month, 3, 50)})
    assert "DC512" not in noted(tmp_path)


def step_notes(names: np.ndarray[Any, Any], values: np.ndarray[Any, Any], cuts: list[int]) -> LeafNotes:
    """The notes on the field ``t`` of units that end at the cuts."""
    merged = LeafNotes()
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(values)}), len(values)]
    for start, stop in itertools.pairwise(bounds):
        columns = (Column("who", pa.array(names[start:stop])), Column("t", pa.array(values[start:stop])))
        found = profile_batches([Batch(columns, stop - start, start)], NOTE_OPTIONS).notes["t", "int64"]
        found.set_file("a")
        merged.merge(pickle.loads(pickle.dumps(found)))
    assert merged.steps is not None
    return merged


@given(st.lists(st.lists(st.sampled_from([1] * 30 + [0, 7]), min_size=40, max_size=40), min_size=1, max_size=4), CUTS)
@settings(max_examples=30)
def test_uneven_steps_are_those_of_numpy_however_the_data_is_split(steps: list[list[int]], cuts: list[int]) -> None:
    values = np.concatenate([np.cumsum([0, *one]) for one in steps])
    names = np.repeat([f"s{number}" for number in range(len(steps))], 41)
    merged = step_notes(names, values, cuts)
    assert merged.steps is not None
    uneven = merged.steps.uneven("t")
    differences = np.diff(values)
    wrong = np.flatnonzero((names[1:] == names[:-1]) & (differences != 1)) + 1
    if not len(wrong) or len(wrong) > 0.1 * 40 * len(steps):
        assert uneven is None
        return
    assert uneven is not None
    assert uneven.num_steps == 40 * len(steps)
    assert sum(tally.count for tally in uneven.tallies) == len(wrong)
    gaps, repeats = wrong[differences[wrong - 1] == 7], wrong[differences[wrong - 1] == 0]
    assert [[one.row for one in tally.examples] for tally in uneven.tallies] == [
        rows[:5].tolist() for rows in (repeats, gaps) if len(rows)
    ]
    assert ("sequence: {by: who, on: t, step: 1}" in uneven.detail) is (len(steps) > 1)
    if len(gaps):
        assert f"from {values[gaps[0] - 1]} to {values[gaps[0]]}" in uneven.detail


@given(st.sets(st.tuples(st.integers(1, 58), st.integers(0, 3)), max_size=9), CUTS)
@settings(max_examples=30)
def test_gaps_in_a_panel_in_the_order_of_time_are_those_of_each_series(
    gone: set[tuple[int, int]], cuts: list[int]
) -> None:
    kept = [(time, series) for time in range(60) for series in range(4) if (time, series) not in gone]
    times, series = np.array(kept).T
    merged = step_notes(np.array(["a", "b", "c", "d"])[series], times, cuts)
    after = [np.flatnonzero(series == one)[1:][np.diff(times[series == one]) != 1] for one in range(4)]
    wrong = np.sort(np.concatenate(after))
    assert merged.steps is not None
    uneven = merged.steps.uneven("t")
    if not len(wrong):
        assert uneven is None
        return
    assert uneven is not None
    assert uneven.num_steps == len(kept) - 4
    assert "sequence: {by: who, on: t, step: 1}" in uneven.detail
    assert sum(tally.count for tally in uneven.tallies) == len(wrong)
    assert {one.row for tally in uneven.tallies for one in tally.examples} <= set(wrong.tolist())


def test_labels_in_the_order_of_time_name_no_series() -> None:
    times, names = np.repeat(np.arange(200), 3), np.tile(["a", "b", "c"], 200)
    everything = np.ones(600, np.bool_)
    for labels, kept in (
        (names, (names != "c") | (times % 2 == 0)),  # a series with steps of its own
        (names, (names != "c") | (times > 100)),  # one that begins late
        (names, (times + (names == "b") * 2 + (names == "c") * 4) % 7 > 2),
        (RANDOM.choice(["a", "b", "c"], 600), everything),
    ):
        steps = step_notes(labels[kept], times[kept], [300]).steps
        assert steps is not None
        assert steps.uneven("t") is None


def test_gaps_in_times_are_noted_and_irregular_times_and_labels_are_not(tmp_path: Path) -> None:
    hours = np.datetime64("2024-03-01T00", "us") + np.arange(200) * np.timedelta64(1, "h")
    kept = np.delete(hours, range(20, 25))
    days = np.datetime64("2024-03-01") + np.arange(len(kept))
    columns = {
        "time": kept,
        "workday": days[0] + np.cumsum(np.resize([1, 1, 1, 1, 3], len(kept))),
        "label": np.sort(RANDOM.choice([0, 1, 2, 5], len(kept))),
        "event": np.cumsum(RANDOM.integers(1, 9, len(kept))),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    [finding] = [one for one in datacheck.find_notes(tmp_path) if one.code == "DC516"]
    assert [one.row for one in finding.examples] == [20]
    assert finding.message.startswith(
        "1 of 194 steps in 'time' are not 1h: 1 gap (6h, from 2024-03-01 19:00:00 to 2024-03-02 01:00:00). As a rule:"
        " sequence: {on: time, step: 1h}"
    )


def test_a_gap_in_a_series_that_a_unique_key_names_is_noted_by_a_plain_scan(tmp_path: Path) -> None:
    steps = np.delete(np.arange(120), range(70, 75))
    table = {
        "series": np.where(steps < 60, "a", "b"),
        "step": np.where(steps < 60, steps, steps - 60),
        "y": steps * 1.0,
    }
    pq.write_table(pa.table(table), tmp_path / "panel.parquet")

    def codes(schema: dict[str, Any]) -> list[tuple[str, str | None]]:
        (tmp_path / "s.yaml").write_text(json.dumps({"version": 1, **schema}))
        report = check([tmp_path / "panel.parquet"], schema=str(tmp_path / "s.yaml"), cache=False)
        return [(one.code, one.field) for one in report.findings]

    assert codes({"unique": [["series", "step"]]}) == [("DC516", "step")]
    assert codes({"unique": ["step"]}) == [("DC301", "step")]
    rule = {"by": "series", "on": "step", "step": 1}
    assert codes({"unique": [["series", "step"]], "sequence": rule}) == [("DC320", "step")]
    assert codes({"unique": [["series", "day"]]}) == [("DC001", "day")]


def test_splits_that_overlap_in_time_are_noted(tmp_path: Path) -> None:
    days = pa.array(np.arange(100), pa.int32()).cast(pa.date32())
    for name, rows in {"train": days[:80], "test": days[70:], "val": days[85:]}.items():
        pq.write_table(pa.table({"day": rows}), tmp_path / f"{name}.parquet")
    assert (
        "overlap between splits: train ends 1970-03-21, test begins 1970-03-12. As a rule: splits"
        in noted(tmp_path)["DC514"]
    )


def key(finding: Finding) -> tuple[Any, ...]:
    return (finding.code, finding.uri, finding.message)


def test_notes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    table = pa.table({"t": weather(40), "e": np.zeros(5000).tolist(), "s": ["a"] * 4999 + ["A "]})
    for number in range(3):
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=700)
    alone = datacheck.find_notes(tmp_path, workers=1)
    assert {finding.code for finding in alone} == {"DC501", "DC504", "DC509"}
    assert list(map(key, datacheck.find_notes(tmp_path, workers=3))) == list(map(key, alone))


def test_the_command_prints_notes_only_when_asked_and_its_exit_code_stays(tmp_path: Path) -> None:
    data = write_table(tmp_path / "train.parquet", {"temp": [20.0] * 50})
    done = run_command("scan", data, "--notes")
    assert done.returncode == 0
    assert "DC504 info: all 50 values in 'temp' are 20. As a rule: min_distinct: 2" in done.stdout
    assert not datacheck.check(data).findings
    assert [finding.code for finding in datacheck.check(data, notes=True).findings] == ["DC504"]


def test_declared_sentinels_are_not_noted_again(tmp_path: Path) -> None:
    data = write_table(tmp_path / "t.parquet", {"t": weather(450)})
    (tmp_path / "s.yaml").write_text("missing: [-999.99]\nfields: {t: {nullable: true}}\n")
    found = datacheck.check(data, notes=True, schema=str(tmp_path / "s.yaml")).findings
    assert [finding.code for finding in found] == ["DC110"]


def test_compare_takes_sentinels_for_nulls(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    train, other = weather(0)[:1000], weather(0)[:1000]
    other[::20] = -999.99
    messages = [
        one.message for one in datacheck.compare({"t": train}, {"t": other}, schema={"missing": [-999.99]}).findings
    ]
    assert any(one.startswith("the null rate of 't' changed from 0 % (0 of 1,000)") for one in messages)
    assert not any("null rate" in one.message for one in datacheck.compare({"t": train}, {"t": other}).findings)


@given(
    rows=st.lists(st.tuples(*[st.none() | st.integers(0, 4)] * 3), max_size=40),
    cuts=CUTS,
    row_group=st.none() | st.just(3),
    are_apart=st.booleans(),
)
@settings(max_examples=40)
def test_lengths_side_by_side_are_counted_however_the_data_is_split(
    rows: list[Any], cuts: list[int], row_group: int | None, are_apart: bool
) -> None:
    """In units, and in batches of single columns as the row groups of a Parquet file are read."""
    names = ["a", "s.b", "s.c"]
    arrays = [pa.array([None if one[index] is None else [1] * one[index] for one in rows]) for index in range(3)]
    arrays = [array.cast(pa.list_(pa.int64())) for array in arrays]
    columns = [Column("a", arrays[0]), Column("s", pa.StructArray.from_arrays(arrays[1:], ["b", "c"]))]
    merged = RowLengths()
    for start, stop in itertools.pairwise([0, *sorted({cut for cut in cuts if 0 < cut < len(rows)}), len(rows)]):
        batch = Batch(tuple(columns), len(rows), row_group=row_group).slice(start, stop - start)
        parts = [batch]
        if are_apart and row_group is not None:
            parts = [replace(batch, columns=(one,), counts_rows=one is batch.columns[0]) for one in batch.columns]
        lengths = profile_batches(parts, NOTE_OPTIONS).row_lengths
        lengths.set_file("a")
        merged.merge(decode(encode([lengths], References()), References())[0])
    for first, second in itertools.combinations(range(3), 2):
        known = [
            (row, one[first], one[second]) for row, one in enumerate(rows) if None not in (one[first], one[second])
        ]
        pair = merged.pairs.get((names[first], names[second]))
        if pair is None:
            assert not rows
            continue
        unequal = [row for row, left, right in known if left != right]
        assert pair.num_rows == len(known)
        assert pair.unequal.count == len(unequal)
        assert [one.row for one in pair.unequal.examples] == unequal[:MAX_EXAMPLES]
        assert pair.equal_long == sum(left == right >= 2 for _, left, right in known)
        assert pair.unequal_long == sum(left != right and max(left, right) >= 2 for _, left, right in known)


def test_of_three_lists_the_odd_one_is_named(tmp_path: Path) -> None:
    """Each list is compared with one other, in files that are read column by column, and in lines."""
    lengths = RANDOM.integers(3, 9, 200).tolist()
    ids = [[1] * length for length in lengths]
    labels = [one[:-1] if row in (7, 120) else one for row, one in enumerate(ids)]
    table = {"input_ids": ids, "labels": labels, "attention_mask": ids}
    pq.write_table(pa.table(table), tmp_path / "a.parquet", row_group_size=50)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, pa.table(table).to_pylist())) + "\n")
    for name, place in (
        ("a.parquet", "row group 0, row 7; row group 2, row 120"),
        ("a.jsonl", "rows 7, 120, lines 8, 121"),
    ):
        (found,) = [one for one in datacheck.find_notes(tmp_path / name) if one.code == "DC513"]
        assert (found.field, found.num_violations, found.num_checked) == ("labels", 2, 200)
        assert found.message.startswith("the lists of input_ids and labels have different lengths in 2 of 200 rows")
        assert found.message.endswith(f"({tmp_path / name}, {place})")


def test_a_schema_forbids_lists_of_another_length_than_those_beside_them(tmp_path: Path) -> None:
    ids = [[1, 2, row] for row in range(60)]
    labels = [one[:-1] if row == 7 else one for row, one in enumerate(ids)]
    write_table(tmp_path / "a.parquet", {"input_ids": ids, "labels": labels})
    schema = datacheck.infer(tmp_path)
    assert [one.expr for one in schema.checks] == ["len(input_ids) == len(labels)"]
    assert [(one.code, one.examples[0].row) for one in datacheck.scan(tmp_path, schema).findings if one.is_error] == [
        ("DC302", 7)
    ]
    permissive = datacheck.infer(tmp_path, permissive=True)
    assert permissive.checks == ()
    assert datacheck.scan(tmp_path, permissive).ok
