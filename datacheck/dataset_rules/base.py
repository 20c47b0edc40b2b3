"""What every rule about a dataset is: a state that takes batches in order, merges with the next part's, and is then judged.

``update`` of a state with the batches of two parts one after the other is the same as ``update`` of one state with each part,
and ``merge``. So a rule is exact for any split into units, and for any number of workers.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from datacheck.batch import Batch
from datacheck.distinct import distinct
from datacheck.findings import MAX_EXAMPLES, MAX_SHOWN, Example, Finding
from datacheck.leaves import IntArray


@dataclass(frozen=True, slots=True)
class Part:
    """Where the batches of a state come from: a file, and the split that it belongs to (None for no splits).

    ``keep_rows`` asks for all rows at fault, and not only for examples.
    """

    uri: str
    split: str | None = None
    keep_rows: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What the dataset is, for the last judgement: its files, its training split, and the current time.

    ``num_files`` is the number of files, where ``uris`` has a name for all of them.
    """

    uris: tuple[str, ...]
    train: str | None = None
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    num_files: int | None = None


@dataclass(frozen=True, slots=True)
class DatasetOutcome:
    """A finding about a dataset, and the rows of its file that are at fault; None if no rows in particular are."""

    finding: Finding
    rows: IntArray | None = None


class RuleState:
    """What one rule knows of a part of a dataset.

    Its public attributes are what it knows: plain values, arrays and tables, which can be sent to another process, or saved.
    """

    def __init__(self, rule: Any, part: Part) -> None:
        self._rule, self._part = rule, part

    def update(self, batch: Batch) -> None:
        """Add the next batch of the part, in the dtypes of the schema."""
        raise NotImplementedError

    def merge(self, other: Self) -> None:
        """Add the state of the next part."""
        raise NotImplementedError

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        """Judge the state of the whole dataset."""
        raise NotImplementedError

    def saved(self) -> dict[str, Any]:
        """What the state knows, without its rule and its part."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Continue from what a state of the same rule and part has saved."""
        vars(self).update(saved)

    def close(self) -> None:
        """Release what the state keeps on disk."""

    def __reduce__(self) -> Any:
        return _loaded, (type(self), self._rule, self._part, self.saved())


def _loaded(kind: type[RuleState], rule: Any, part: Part, saved: Mapping[str, Any]) -> RuleState:
    state = kind(rule, part)
    state.load(saved)
    return state


class DatasetRule(Protocol):
    """One rule of a schema about a dataset."""

    @property
    def columns(self) -> tuple[str | None, ...]:
        """The paths that it reads; ``()`` if it only counts rows."""
        ...

    def start(self, part: Part) -> RuleState:
        """The state of a part before anything was read."""
        ...


@dataclass(slots=True)
class FileTally:
    """What a rule about rows found in one file.

    The value of an example says what is wrong with it, and ``detail`` what was expected.
    """

    num_checked: int = 0
    num_violations: int = 0
    examples: list[Example] = field(default_factory=list)
    detail: str = ""
    rows: list[IntArray] = field(default_factory=list)

    def merge(self, other: FileTally) -> None:
        """Add what was found in the next part of the file."""
        self.num_checked += other.num_checked
        self.num_violations += other.num_violations
        self.detail = self.detail or other.detail
        self.examples = sorted([*self.examples, *other.examples], key=_position)[:MAX_EXAMPLES]
        self.rows += other.rows


def _position(example: Example) -> int:
    return -1 if example.row is None else example.row


def _described(found: FileTally) -> str:
    """What was expected, and what is wrong with the first rows."""
    shown = "; ".join(list(dict.fromkeys(example.value for example in found.examples))[:MAX_SHOWN])
    return ", ".join(filter(None, (found.detail, shown)))


class FileTallies:
    """What a rule about rows found, by file."""

    __slots__ = ("by_file",)

    def __init__(self, by_file: Mapping[str, FileTally] | None = None) -> None:
        self.by_file: dict[str, FileTally] = dict(by_file or {})

    def add(self, uri: str, found: FileTally) -> None:
        """Add what was found in the next part of a file."""
        known = self.by_file.get(uri)
        if known is None:
            self.by_file[uri] = found
        else:
            known.merge(found)

    def merge(self, other: FileTallies) -> None:
        for uri, found in other.by_file.items():
            self.add(uri, found)

    def outcomes(self, code: str, field_name: str | None, rule: str) -> Iterable[DatasetOutcome]:
        """One outcome for each file with violations."""
        for uri, found in self.by_file.items():
            if found.num_violations:
                rows = distinct(np.concatenate(found.rows)) if found.rows else None
                finding = Finding(
                    code,
                    uri,
                    field_name,
                    found.num_violations,
                    found.num_checked,
                    tuple(found.examples),
                    rule,
                    _described(found),
                )
                yield DatasetOutcome(finding, rows)
