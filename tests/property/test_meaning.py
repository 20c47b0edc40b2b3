"""Rules on what values mean (sentinels, texts, token ids, boxes, chats) agree with plain Python, however data is split."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_scans import CUTS, split_findings

import datacheck
from datacheck.findings import Finding


def found(data: Any, field: dict[str, Any], cuts: list[int]) -> dict[tuple[str, str | None], Finding]:
    """The findings on a column whose parts are units of their own, by code and rule."""
    return {(finding.code, finding.rule): finding for finding in split_findings(data, field, cuts)}


def counts(findings: dict[tuple[str, str | None], Finding]) -> dict[str, int]:
    return {code: finding.num_violations for (code, _), finding in findings.items()}


def expected_counts(**rules: int) -> dict[str, int]:
    return {code: number for code, number in rules.items() if number}


SENTINELS = st.sampled_from([-999.99, 1e20, -1.0, 5.0, 0.0, math.nan, math.inf, 50.0]) | st.floats(-3, 3, width=32)


@given(
    st.lists(SENTINELS | st.none(), min_size=1, max_size=30),
    CUTS,
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=60)
def test_sentinels_are_counted_alone_and_by_no_other_rule(
    values: list[Any], cuts: list[int], is_list: bool, dtype: Any
) -> None:
    array = pa.array([None if value is None else dtype(value) for value in values], pa.from_numpy_dtype(dtype))
    field = {"missing": [-999.99, 1e20], "ge": -2, "le": 10}
    data = pa.array([[value] for value in array.to_pylist()], pa.list_(array.type)) if is_list else array
    present = [float(dtype(value)) for value in values if value is not None]
    sentinels = [value for value in present if value in (float(dtype(-999.99)), float(dtype(1e20)))]
    others = [value for value in present if value not in sentinels]
    assert counts(found(data, field, cuts)) == expected_counts(
        DC101=sum(map(math.isnan, others)),
        DC102=others.count(math.inf),
        DC104=values.count(None),
        DC110=len(sentinels),
        DC201=sum(value < -2 for value in others),
        DC202=sum(value > 10 for value in others),
    )


TEXTS = st.sampled_from(["", " ", "\t\n", "a", " a", "a\u00a0", "ab\x00", "\ufffd", "n/a", "abcdef"]) | st.none()


@given(st.lists(TEXTS, min_size=1, max_size=30), CUTS, st.sampled_from([pa.string(), pa.large_string(), "dictionary"]))
@settings(max_examples=60)
def test_rules_on_texts_agree_with_python(values: list[str | None], cuts: list[int], kind: Any) -> None:
    array = pa.array(values, pa.string())
    array = array.dictionary_encode() if kind == "dictionary" else array.cast(kind)
    field = {
        "nullable": True,
        "not_blank": True,
        "stripped": True,
        "printable": True,
        "min_length": 1,
        "max_length": 3,
        "missing": ["n/a"],
    }
    texts = [value for value in values if value is not None and value != "n/a"]
    assert counts(found(array, field, cuts)) == expected_counts(
        DC110=values.count("n/a"),
        DC211=sum(not text.strip() for text in texts),
        DC212=sum(text != text.strip() for text in texts),
        DC213=sum("\x00" in text or "\ufffd" in text for text in texts),
        DC214=sum(not 1 <= len(text) <= 3 for text in texts),
    )


@given(st.lists(st.lists(st.integers(-2, 6) | st.just(-100), max_size=4), min_size=1, max_size=20), CUTS)
@settings(max_examples=60)
def test_token_ids_and_ignored_rows_agree_with_python(rows: list[list[int]], cuts: list[int]) -> None:
    field = {"vocab_size": 5, "ignore_index": -100}
    ids = [number for row in rows for number in row if number != -100]
    expected = expected_counts(
        DC215=sum(not 0 <= number < 5 for number in ids), DC216=sum(bool(row) and set(row) == {-100} for row in rows)
    )
    assert counts(found(pa.array(rows, pa.list_(pa.int32())), field, cuts)) == expected
    wide = max(map(len, rows))
    full = [row for row in rows if len(row) == wide > 0]
    for order in "CF":
        array = np.asarray(np.array(full, np.int64).reshape(len(full), wide), order=order)  # type: ignore[call-overload]
        expected = expected_counts(
            DC215=sum(number != -100 and not 0 <= number < 5 for row in full for number in row),
            DC216=sum(set(row) == {-100} for row in full),
        )
        assert counts(found(array, field, cuts)) == expected


COORDINATE = st.integers(-1, 4).map(float) | st.just(math.nan)
BOXES = st.lists(st.lists(COORDINATE, min_size=4, max_size=4), max_size=3)


def corners(box: list[float], form: str) -> tuple[float, float, float, float]:
    a, b, c, d = box
    if form == "xyxy":
        return a, b, c, d
    return (a, b, a + c, b + d) if form == "xywh" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)


@given(st.lists(BOXES, min_size=1, max_size=12), CUTS, st.sampled_from(["xyxy", "xywh", "cxcywh"]))
@settings(max_examples=60)
def test_boxes_agree_with_python(rows: list[list[list[float]]], cuts: list[int], form: str) -> None:
    field = {"format": form, "within": [3, 3], "allow_nan": True}
    boxes = [box for row in rows for box in row]
    width, height = ("x1 < x2", "y1 < y2") if form == "xyxy" else ("width > 0", "height > 0")
    expected = {
        width: sum(box[0] >= box[2] if form == "xyxy" else box[2] <= 0 for box in boxes),
        height: sum(box[1] >= box[3] if form == "xyxy" else box[3] <= 0 for box in boxes),
        "inside [3, 3]": sum(
            (min(x1, y1) < 0 and not math.isnan(x1 + y1)) or x2 > 3 or y2 > 3
            for x1, y1, x2, y2 in (corners(box, form) for box in boxes)
        ),
    }
    expected = {rule: number for rule, number in expected.items() if number}
    kinds = [pa.list_(pa.list_(pa.float32())), pa.list_(pa.list_(pa.float32(), 4))]
    for kind in kinds:
        findings = found(pa.array(rows, kind), field, cuts)
        assert {finding.rule: finding.num_violations for finding in findings.values()} == expected
        assert {finding.num_checked for finding in findings.values()} <= {len(boxes)}
    for order in "CF":
        array = np.asarray(np.array(boxes, np.float32).reshape(-1, 4), order=order)  # type: ignore[call-overload]
        found_in_array = found(array, field, cuts).values() if len(array) else ()
        assert {finding.rule: finding.num_violations for finding in found_in_array} == (expected if boxes else {})


@given(
    rows=st.lists(st.tuples(BOXES, st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5),
    form=st.sampled_from(["xyxy", "xywh", "cxcywh"]),
)
def test_boxes_lie_within_the_sizes_that_their_row_has(
    rows: list[tuple[list[list[float]], int, int]], form: str
) -> None:
    table = pa.table(
        {
            "boxes": pa.array([boxes for boxes, _, _ in rows], pa.list_(pa.list_(pa.float64()))),
            "width": [width for _, width, _ in rows],
            "high side": [height for _, _, height in rows],
        }
    )
    schema = {"fields": {"boxes": {"format": form, "within": ["width", "high side"], "allow_nan": True}}}
    report = datacheck.scan(table, schema)
    shown = {example.row for one in report.findings if one.code == "DC302" for example in one.examples}
    assert shown == {
        index
        for index, (boxes, width, height) in enumerate(rows)
        if not all(
            x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
            for x1, y1, x2, y2 in (corners(one, form) for one in boxes)
        )
    }


MESSAGES = st.lists(
    st.tuples(st.sampled_from(["system", "user", "assistant", "tool", "Bob"]), st.sampled_from(["hi", " ", None])),
    max_size=5,
)


@given(st.lists(MESSAGES, min_size=1, max_size=12), CUTS, st.sampled_from([("role", "content"), ("from", "value")]))
@settings(max_examples=60)
def test_chats_agree_with_python(rows: list[list[tuple[str, Any]]], cuts: list[int], keys: tuple[str, str]) -> None:
    kind = pa.list_(pa.struct([pa.field(key, pa.string()) for key in keys]))
    data = pa.array([[dict(zip(keys, message, strict=True)) for message in row] for row in rows], kind)

    def alternates(row: list[tuple[str, Any]]) -> bool:
        turns = [role for role, _ in row if role in ("user", "assistant", "tool")]
        return not any(first == second != "tool" for first, second in itertools.pairwise(turns))

    def has_blank(row: list[tuple[str, Any]]) -> bool:
        following = [*(role for role, _ in row[1:]), ""][: len(row)]
        return any(
            not (text or "").strip() and (role == "user" or (role == "assistant" and after != "tool"))
            for (role, text), after in zip(row, following, strict=True)
        )

    expected = {
        "roles are system, user, assistant or tool": sum(any(role == "Bob" for role, _ in row) for row in rows),
        "user and assistant alternate": sum(not alternates(row) for row in rows),
        "there is an assistant turn": sum(all(role != "assistant" for role, _ in row) for row in rows),
        "every message has text": sum(map(has_blank, rows)),
    }
    findings = found(data, {"format": "chat"}, cuts)
    assert {rule: finding.num_violations for (code, rule), finding in findings.items() if code == "DC217"} == {
        rule: number for rule, number in expected.items() if number
    }


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        (
            np.array([70, -15281], np.int16),
            {"vocab_size": 50257},
            "DC215 1 of 2 values in 'x' are not token ids from 0 to",
        ),
        (pa.array(["a", "  "]), {"not_blank": True}, "DC211 1 of 2 texts in 'x' are empty or blank (<memory>, row 1)"),
        (
            np.array([1.0, -999.0]),
            {"missing": -999},
            "DC110 1 of 2 values in 'x' mark a missing value ('-999'):",
        ),
        (
            np.array([[1, 2, 3, 4], [9, 2, 3, 4]]),
            {"format": "xyxy"},
            "DC217 1 of 2 boxes in 'x' break: x1 < x2 (<memory>,",
        ),
        (np.array([1.5]), {"vocab_size": 9}, "DC005 vocab_size: the values are float64, not integers"),
        (np.array([[1, 2, 3]]), {"format": "xywh"}, "DC217 1 of 1 boxes in 'x' break: each has 4 coordinates"),
    ],
)
def test_messages(data: Any, field: dict[str, Any], message: str) -> None:
    table = {"x": data} if isinstance(data, np.ndarray) else pa.table({"x": data})
    finding = datacheck.scan(table, {"fields": {"x": field}}).findings[0]
    assert message.partition(" ")[0] == finding.code
    assert message.partition(" ")[2] in f"{finding.message}"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            {"dtype": "uint16", "vocab_size": 128_256},
            "uint16 cannot hold 128,256 token ids: its largest value is 65,535",
        ),
        ({"dtype": "uint8", "ignore_index": -100}, "uint8 cannot hold -100"),
        ({"dtype": "float32", "not_blank": True}, "values of float32 are not texts"),
        ({"min_length": 5, "max_length": 3}, "5 is above 'max_length', which is 3"),
        ({"within": [1, 1]}, "set 'format' to xyxy, xywh or cxcywh"),
        ({"format": "xyxy", "within": [0, 1]}, "expected the width and the height, both above 0"),
        ({"format": "chat", "dtype": "string"}, "leave 'dtype' out"),
        ({"na_values": [1]}, "write 'missing'"),
    ],
)
def test_a_schema_that_contradicts_itself_is_an_error(field: dict[str, Any], message: str) -> None:
    with pytest.raises(datacheck.DatacheckError, match=message.replace("(", r"\(")):
        datacheck.scan(np.zeros(1), {"fields": {"x": field}})


def test_chats_that_are_all_empty_have_no_assistant_turn() -> None:
    findings = datacheck.scan(pa.table({"messages": [[], []]}), {"fields": {"messages": {"format": "chat"}}}).findings
    assert [(one.code, one.rule, one.num_violations) for one in findings] == [
        ("DC217", "there is an assistant turn", 2)
    ]
