"""Words among the numbers of a text file, and words in its text that other readers take for NaN."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import BoolArray, arrow_bits
from datacheck.sources.base import NULL_WORDS
from datacheck.sources.text_parsing import describe_lookalikes

#: How many words to look at.
_MAX_CELLS = 1000
#: What pandas' readers take for missing values.
_NAN_WORDS = (*NULL_WORDS[1:], "nan", "NaN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")


def describe_words(words: pa.Array, unconvertible: BoolArray) -> str:
    """What the words that are not of their column's type look like, and what to set; empty if they are only words."""
    return describe_lookalikes(words.take(pa.array(np.flatnonzero(unconvertible)[:_MAX_CELLS])))


@functools.cache
def words_for_nan() -> pa.Array:
    """The words that pandas' readers take for missing values, as an Arrow array."""
    # pa.array would import pandas.
    offsets = np.cumsum([0, *map(len, _NAN_WORDS)], dtype=np.int32)
    text = pa.py_buffer("".join(_NAN_WORDS).encode())
    return pa.StringArray.from_buffers(len(_NAN_WORDS), pa.py_buffer(offsets), text)


def nan_words(batch: Batch) -> Iterator[Outcome]:
    """DC106 for each column of text, in a format without dtypes, with words that pandas reads as NaN."""
    for column in batch.columns:
        if not column.untyped:
            continue
        texts: pa.Array = column.data
        is_nan = arrow_bits(pc.is_in(texts, value_set=words_for_nan()))
        rows = np.flatnonzero(is_nan).astype(np.int64)
        if len(rows):
            first = rows[:MAX_EXAMPLES].tolist()
            examples = tuple(
                Example(int(file_row), batch.row_group, (), str(texts[row].as_py()))
                for row, file_row in zip(first, batch.file_rows(rows[:MAX_EXAMPLES]), strict=True)
            )
            num_checked = len(texts) - texts.null_count
            yield Outcome("DC106", column.name, num_checked, len(rows), rows, examples)
