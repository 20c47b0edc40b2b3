"""Keys that occur twice in one object are found wherever they are; text that looks like keys is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datacheck

pytest.importorskip("msgspec")

from datacheck.sources.json_keys import duplicate_keys, may_have_duplicates

TEXT = st.text(alphabet='ab":\\{ ,', max_size=6)
VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


def number_of_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(number_of_keys, value.values()))
    return sum(map(number_of_keys, value)) if isinstance(value, list) else 0


def found(path: Path) -> list[tuple[str | None, int, list[int | None]]]:
    findings = [one for one in datacheck.scan(path).findings if one.code == "DC016"]
    return [(one.field, one.num_violations, [example.row for example in one.examples]) for one in findings]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_duplicate_keys_are_named_with_their_rows(suffix: str, tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": {"c": 1}}'] * 20
    lines[3] = '{"a": 1, "b": {"c": 1}, "a": 2}'
    lines[7] = '{"a": 1, "b": {"c": 1, "c": 2}}'
    lines[9] = '{"a": 1, "b": {"c": 1, "c" : 2}, "b": {"c": 3}}'
    text = "\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]"
    (tmp_path / f"x{suffix}").write_text(text)
    assert sorted(found(tmp_path / f"x{suffix}"), key=str) == [("a", 1, [3]), ("b", 1, [9]), ("c", 2, [7, 9])]


def test_text_that_looks_like_keys_is_none(tmp_path: Path) -> None:
    records = [{"a": 'say "a": 1, "a": 2', "b\\": 1, 'c":': [{"d": 1}, {"d": 2}]} for _ in range(5)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert found(tmp_path / "x.jsonl") == []


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=3), min_size=1, max_size=4), st.booleans())
def test_no_duplicate_is_found_where_there_is_none(records: list[dict[str, Any]], is_compact: bool) -> None:
    separators = (",", ":") if is_compact else None
    lines = [json.dumps(record, separators=separators).encode() for record in records]
    assert list(duplicate_keys(lines)) == []


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1), st.integers(0, 3))
def test_a_key_more_than_there_are_is_seen(record: dict[str, int], number: int) -> None:
    key = next(iter(record))
    line = json.dumps(record).encode()
    more = line[:-1] + b"".join(f', "{key}": {value}'.encode() for value in range(number)) + b"}"
    assert may_have_duplicates(more, number_of_keys(json.loads(more))) == bool(number)
    assert [fault.field for fault in duplicate_keys([more])] == [key] * bool(number)
