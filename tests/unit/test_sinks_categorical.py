"""A Categorical behaves like a list."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datacheck.sinks.categorical import Categorical

items = st.lists(st.sampled_from([(), ("DC101",), ("DC101", "DC202")]), max_size=20)


@given(st.lists(items, max_size=4))
def test_concatenation_equals_that_of_lists(parts: list[list[tuple[str, ...]]]) -> None:
    joined = Categorical.concatenate(map(Categorical.of, parts))
    plain = [item for part in parts for item in part]
    assert list(joined) == plain
    assert len(set(joined.values)) == len(joined.values)
    assert dict(joined.counts()) == {item: plain.count(item) for item in plain}
    assert joined.to_arrow(pa.list_(pa.string())).to_pylist() == [list(item) for item in plain]


@given(items, st.data())
def test_indexing_equals_that_of_lists(plain: list[tuple[str, ...]], data: st.DataObject) -> None:
    column = Categorical.of(plain)
    assert Categorical.of(column) is column
    rows = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=5)) if plain else []
    assert list(column.take(np.array(rows, np.int64))) == [plain[row] for row in rows]
    assert list(column[2:7]) == plain[2:7]
    assert [column[row] for row in range(len(column))] == plain
