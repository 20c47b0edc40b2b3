"""DC331: texts of a category that differ from a more frequent one only in case or in blanks.

A state counts the different texts of the dataset, as long as there are few enough for a category.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.field_values import FieldValues, Source, values_of
from datacheck.findings import Example, Finding
from datacheck.text import describe_variants, find_variants, plain

VARIANTS = "DC331"
#: Different texts of a category.
_MAX_TEXTS = 1 << 14
_TOO_MANY = f"there are more than {_MAX_TEXTS:,} different texts, too many for a category"
#: Where a text first is: file, row, row group.
_Place = tuple[str, int, int | None]


@dataclass(frozen=True, slots=True)
class VariantsRule:
    """That no text of a field is a variant of another one."""

    source: Source

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.source.path,)

    def start(self, part: Part) -> VariantsState:
        return VariantsState(self, part)


class VariantsState(RuleState):
    """The count of each text, and where it first is; ``problem`` says why there are none."""

    def __init__(self, rule: VariantsRule, part: Part) -> None:
        super().__init__(rule, part)
        self._source = rule.source
        self.counts: dict[str, int] = {}
        self.places: dict[str, _Place] = {}
        self.problem = ""

    def update(self, batch: Batch) -> None:
        for found in values_of(batch, self._source):
            if self.problem:
                return
            if isinstance(found.values, np.ndarray) or found.leaf.dtype != "string":
                self._give_up(f"the values are {found.leaf.dtype}, not strings")
            else:
                self._add(found, batch)

    def _add(self, found: FieldValues, batch: Batch) -> None:
        encoded = found.values.dictionary_encode()
        if len(encoded.dictionary) > _MAX_TEXTS:
            self._give_up(_TOO_MANY)
            return
        try:
            texts = encoded.dictionary.to_pylist()
        except UnicodeDecodeError:
            self._give_up("some texts are not valid UTF-8")
            return
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        numbers = np.bincount(codes, minlength=len(texts)).tolist()
        for code, text in enumerate(texts):
            if text not in self.counts:
                row = int(found.rows_of(np.array([np.argmax(codes == code)]))[0])
                self.places[text] = self._part.uri, int(batch.file_rows(np.array([row]))[0]), batch.row_group
            self.counts[text] = self.counts.get(text, 0) + numbers[code]
        self._check_size()

    def _check_size(self) -> None:
        if len(self.counts) > _MAX_TEXTS:
            self._give_up(_TOO_MANY)

    def _give_up(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.counts, self.places = {}, {}

    def merge(self, other: VariantsState) -> None:
        if self.problem or other.problem:
            self._give_up(self.problem or other.problem)
            return
        for text, number in other.counts.items():
            self.counts[text] = self.counts.get(text, 0) + number
            self.places.setdefault(text, other.places[text])
        self._check_size()

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        path = self._source.path
        if self.problem:
            yield DatasetOutcome(Finding("DC005", context.uris[0], path, 1, 1, detail=f"no_variants: {self.problem}"))
            return
        variants = find_variants(self.counts)
        if variants:
            uri = self.places[next(iter(variants))][0]
            examples = tuple(
                Example(row, group, (), plain(text, 80))
                for text, (file, row, group) in ((text, self.places[text]) for text in list(variants)[:5])
                if file == uri
            )
            number, total = sum(self.counts[text] for text in variants), sum(self.counts.values())
            detail = describe_variants(variants, self.counts)
            yield DatasetOutcome(Finding(VARIANTS, uri, path, number, total, examples, detail=detail))
