"""The notes on the leaves of one path and dtype: of numbers, times or texts, and of the vectors and series that they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.dataset_rules.positions import Scale, unit_of
from datacheck.leaves import Leaf
from datacheck.numerics import CACHED_BLOCK, to_float
from datacheck.profile.coalesce_batches import CoalescedBatch
from datacheck.profile.leaf import BlockExtremes, extremes
from datacheck.profile.notes.numbers import NumberNotes
from datacheck.profile.notes.steps import StepNotes
from datacheck.profile.notes.tally import Tally, places_in
from datacheck.profile.notes.texts import TextNotes
from datacheck.profile.notes.vectors import VectorNotes

Array = np.ndarray[Any, Any]

_NO_NUMBERS = ("bool", "complex64", "complex128", "clongdouble")


@dataclass(slots=True)
class LeafNotes:
    """What the notes know of one path and dtype. Mergeable; each part is None if the values are of another kind."""

    numbers: NumberNotes | None = None
    vectors: VectorNotes | None = None
    texts: TextNotes | None = None
    steps: StepNotes | None = None

    def add(
        self,
        leaf: Leaf,
        encoded: pa.DictionaryArray | None,
        coalesced: CoalescedBatch,
        *,
        ends: BlockExtremes | None = None,
        is_untyped: bool = False,
    ) -> None:
        """Add a leaf, as :meth:`datacheck.profile.leaf.LeafProfile.add` does; ``is_untyped`` as for its column."""
        if leaf.values is None or not len(leaf):
            return
        if leaf.is_numeric:
            if leaf.dtype not in _NO_NUMBERS:
                self._add_numbers(leaf, leaf.values, coalesced, ends)
                self._add_vectors(leaf, coalesced)
                if leaf.values.dtype.kind in "iu" and leaf.dtype == leaf.values.dtype.name:
                    self._add_steps(leaf, leaf.values, coalesced, Scale())
        elif leaf.dtype == "string":
            self.texts = self.texts or TextNotes()
            self.texts.add(leaf.values, encoded, places_in(leaf, coalesced), is_untyped=is_untyped)
        elif pa.types.is_timestamp(leaf.values.type) or pa.types.is_date(leaf.values.type):
            ticks = leaf.values.view(pa.int32() if leaf.values.type.bit_width == 32 else pa.int64())
            values = ticks.fill_null(0).to_numpy(zero_copy_only=False)
            self._add_numbers(leaf, values, coalesced, None)
            self._add_steps(leaf, values, coalesced, Scale(unit_of(leaf.values.type)))

    def _add_numbers(self, leaf: Leaf, values: Array, coalesced: CoalescedBatch, known: BlockExtremes | None) -> None:
        self.numbers = self.numbers or NumberNotes()
        places = places_in(leaf, coalesced)
        is_float = leaf.is_numeric and leaf.may_be_nonfinite
        for start in range(0, len(values), CACHED_BLOCK):
            part = slice(start, start + CACHED_BLOCK)
            chunk = to_float(values[part], leaf.dtype) if leaf.is_numeric else values[part]
            present = None if leaf.validity is None or leaf.validity[part].all() else leaf.validity[part]
            # The extremes of all values are finite only if all values are.
            ends = extremes(chunk) if known is None else known[start // CACHED_BLOCK]
            if is_float and not np.isfinite(ends).all():
                finite = np.isfinite(chunk)
                present = finite if present is None else present & finite
            positions = None if present is None else np.flatnonzero(present)
            kept = chunk if positions is None else chunk[positions]
            if len(kept):
                ends = ends if positions is None else extremes(kept)
                self.numbers.add(kept, ends, positions, places, start, is_float=is_float)

    def _add_steps(self, leaf: Leaf, values: Array, coalesced: CoalescedBatch, scale: Scale) -> None:
        batch = coalesced.batch
        if leaf.path is None or leaf.levels or len(values) != batch.num_rows or not batch.counts_rows:
            return
        self.steps = self.steps or StepNotes(scale)
        rows = np.arange(len(values)) if leaf.validity is None else np.flatnonzero(leaf.validity)
        if values.dtype == np.uint64 and len(values) and values.max() >= 2**63:
            return
        kept = values.astype(np.int64, copy=False)
        places = places_in(leaf, coalesced)
        self.steps.add(kept if len(rows) == len(kept) else kept[rows], rows, batch, leaf.path, places)

    def _add_vectors(self, leaf: Leaf, coalesced: CoalescedBatch) -> None:
        is_image = leaf.dtype == "uint8" and leaf.shape is not None and len(leaf.shape) > 2
        if leaf.levels and leaf.validity is None and (leaf.may_be_nonfinite or is_image):
            self.vectors = self.vectors or VectorNotes()
            with np.errstate(invalid="ignore"):
                self.vectors.add(leaf, coalesced)

    def merge(self, other: LeafNotes) -> None:
        """Merge the notes on the next part of the data, which must not be used afterwards."""
        for name in ("numbers", "vectors", "texts", "steps"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None:
                setattr(self, name, theirs)
            elif theirs is not None:
                mine.merge(theirs)

    def set_file(self, uri: str) -> None:
        """Say which file the places are in."""
        for part in (self.numbers, self.vectors, self.texts, self.steps):
            for tally in part.tallies() if part is not None else ():
                tally.uri = uri

    def tallies(self) -> list[Tally]:
        parts = (self.numbers, self.vectors, self.texts, self.steps)
        return [tally for part in parts if part is not None for tally in part.tallies()]
