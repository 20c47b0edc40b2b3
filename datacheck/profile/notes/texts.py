"""What the notes know of the texts of a field: which are blank, damaged or padded, and whether they are numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.checks.mixed_text import words_for_nan
from datacheck.leaves import BoolArray, arrow_bits
from datacheck.profile.notes.tally import Places, Tally
from datacheck.sources.text_parsing import count_lookalikes, describe_lookalikes

#: Texts to look at for numbers, in each part of the data.
_MAX_LOOKED = 1000
#: Longer texts are prose, which may begin or end with blanks. In bytes.
_MAX_LABEL = 200
_NUMBER = r"^[+-]?(?:0|[1-9][0-9]*|[0-9]+\.[0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)(?:[eE][+-]?[0-9]+)?$"
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\x{FFFD}"


@dataclass(slots=True)
class TextNotes:
    """The notes on texts. ``num_looked`` were looked at for numbers, ``num_numbers`` are, others look like some."""

    num_texts: int = 0
    num_empty: int = 0
    blank: Tally = field(default_factory=Tally)
    padded: Tally = field(default_factory=Tally)
    damaged: Tally = field(default_factory=Tally)
    nan_words: Tally = field(default_factory=Tally)
    num_looked: int = 0
    num_numbers: int = 0
    num_lookalikes: int = 0
    looks_like: str = ""

    def add(
        self, values: pa.Array, encoded: pa.DictionaryArray | None, places: Places, *, is_untyped: bool = False
    ) -> None:
        """Add texts; ``encoded`` holds the same ones by dictionary, if there are few distinct ones.

        ``is_untyped`` says that they are text only because their format has no dtypes: a scan looks for words in them.
        """
        texts = values if encoded is None else encoded.dictionary
        self.num_texts += len(values) - values.null_count
        try:
            trimmed = pc.utf8_trim_whitespace(texts)
        except pa.ArrowInvalid:
            # Text that is not valid UTF-8 is an error of its own (DC208).
            return
        length, kept = pc.binary_length(texts), pc.binary_length(trimmed)
        is_label = pc.and_(pc.less_equal(length, _MAX_LABEL), pc.greater(kept, 0))
        empty = _spread(pc.equal(length, 0), encoded)
        self.num_empty += int(np.count_nonzero(empty))
        for tally, found in (
            (self.blank, pc.equal(kept, 0)),
            (self.padded, pc.and_(is_label, pc.less(kept, length))),
            (self.damaged, pc.match_substring_regex(texts, _CONTROL)),
            *([] if is_untyped else [(self.nan_words, pc.is_in(texts, value_set=words_for_nan().cast(texts.type)))]),
        ):
            if pc.any(found).as_py():
                tally.add_mask(_spread(found, encoded), places)
        self._look(trimmed)

    def _look(self, texts: pa.Array) -> None:
        cells = texts[: 2 * _MAX_LOOKED].drop_null()[:_MAX_LOOKED]
        cells = cells.filter(pc.greater(pc.binary_length(cells), 0))
        if not len(cells):
            return
        numbers = pc.match_substring_regex(cells, _NUMBER)
        self.num_looked += len(cells)
        self.num_numbers += int(pc.sum(numbers).as_py() or 0)
        self.num_lookalikes += count_lookalikes(cells)
        self.looks_like = self.looks_like or describe_lookalikes(cells)

    def merge(self, other: TextNotes) -> None:
        for name in ("num_texts", "num_empty", "num_looked", "num_numbers", "num_lookalikes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in zip(self.tallies(), other.tallies(), strict=True):
            mine.merge(theirs)
        self.looks_like = self.looks_like or other.looks_like

    def tallies(self) -> list[Tally]:
        return [self.blank, self.padded, self.damaged, self.nan_words]


def _spread(found: Any, encoded: pa.DictionaryArray | None) -> BoolArray:
    """A flag per text: whether it is of a kind. A null is not."""
    flags = arrow_bits(pc.fill_null(found, False))
    if encoded is None:
        return flags
    indices = encoded.indices.fill_null(len(flags)).to_numpy(zero_copy_only=False)
    spread: BoolArray = np.append(flags, np.False_)[indices]
    return spread
