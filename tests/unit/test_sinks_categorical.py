"""Sequences of few different values behave as the lists they stand for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datacheck.sinks.categorical import Categorical

items = st.lists(st.sampled_from([(), ("DC101",), ("DC101", "DC202")]), max_size=20)


@given(st.lists(items, max_size=4))
def test_joined_they_are_the_lists_joined(parts: list[list[tuple[str, ...]]]) -> None:
    joined = Categorical.concatenate(map(Categorical.of, parts))
    plain = [item for part in parts for item in part]
    assert list(joined) == plain
    assert len(set(joined.values)) == len(joined.values)
    assert dict(joined.counts()) == {item: plain.count(item) for item in plain}
    assert joined.to_arrow(pa.list_(pa.string())).to_pylist() == [list(item) for item in plain]


@given(items, st.data())
def test_items_are_taken_as_from_a_list(plain: list[tuple[str, ...]], data: st.DataObject) -> None:
    choices = Categorical.of(plain)
    assert Categorical.of(choices) is choices
    rows = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=5)) if plain else []
    assert list(choices.take(np.array(rows, np.int64))) == [plain[row] for row in rows]
    assert list(choices[2:7]) == plain[2:7]
    assert [choices[row] for row in range(len(choices))] == plain
