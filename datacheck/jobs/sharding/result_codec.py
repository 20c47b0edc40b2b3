"""Results of units as plain bytes: a tree of JSON, and buffers of numbers and Arrow data beside it. Nothing is pickled.

::

    a line that says what it is, and a line with the SHA-256 of all that follows
    8 bytes: the length of the JSON; the JSON; the buffers

The JSON says where each buffer begins, so that a reader allocates no more than the file holds. Only the classes listed here
are ever created, without their constructors, from the values of their fields.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.dataset_rules.base import DatasetRule
from datacheck.dataset_rules.dataset_state import DatasetState
from datacheck.errors import DatacheckError
from datacheck.formats import load
from datacheck.jobs.stage import Stage
from datacheck.publishing.sealed_json import DamagedError

_MAGIC = b"datacheck-result\n"
_HASH_BYTES, _LENGTH_BYTES = 64, 8
_FIRST = len(_MAGIC) + _HASH_BYTES + 1

#: The classes of results, by module.
_MODULES = {
    "datacheck.checks.base": ("Outcome",),
    "datacheck.checks.structure": ("FieldFacts",),
    "datacheck.cleaning.fit.accumulator": ("Accumulator", "MemoryLimits"),
    "datacheck.cleaning.fit.frequencies": ("Frequencies",),
    "datacheck.cleaning.fit.learner": ("PartialStatistics",),
    "datacheck.cleaning.fit.quantiles": ("Quantiles",),
    "datacheck.cleaning.fit.statistics": ("LearnedFrom",),
    "datacheck.cleaning.plan": ("Step",),
    "datacheck.dataset_rules.base": ("FileTallies", "FileTally", "Part"),
    "datacheck.dataset_rules.dimensions": ("_Size",),
    "datacheck.dataset_rules.distinct_values": ("FirstValues",),
    "datacheck.exact_moments": ("ExactMoments",),
    "datacheck.dataset_rules.positions": ("Scale",),
    "datacheck.dataset_rules.statistics": ("_Counts",),
    "datacheck.dataset_rules.together": ("Together",),
    "datacheck.exact_sums": ("ExactSum",),
    "datacheck.findings": ("Example", "Finding", "Severity"),
    "datacheck.hashing.key_files": ("KeyFile",),
    "datacheck.hashing.keys": ("KeyHashes",),
    "datacheck.jobs.fit": ("LearnedFiles", "UnitStatistics"),
    "datacheck.jobs.scan": ("_InspectedFile",),
    "datacheck.jobs.units.result": ("RemovedSample", "UnitResult"),
    "datacheck.jobs.units.scan": ("UnitScan",),
    "datacheck.profile.compare.split_rules": ("_Found",),
    "datacheck.profile.dataset": ("_Inspected",),
    "datacheck.profile.leaf": ("LeafProfile",),
    "datacheck.profile.new_values": ("NewValues",),
    "datacheck.profile.notes.leaf_notes": ("LeafNotes",),
    "datacheck.profile.notes.numbers": ("CommonValues", "Ends", "NumberNotes"),
    "datacheck.profile.notes.panel_steps": ("PanelSteps", "SeenStep", "_Series"),
    "datacheck.profile.notes.row_lengths": ("LengthPair", "RowLengths"),
    "datacheck.profile.notes.steps": ("StepNotes", "UnevenSteps", "_Row"),
    "datacheck.profile.notes.tally": ("Tally",),
    "datacheck.profile.notes.texts": ("TextNotes",),
    "datacheck.profile.notes.vectors": ("Channels", "VectorNotes"),
    "datacheck.profile.row_hashes": ("RowHashes", "RowNumbers"),
    "datacheck.profile.sample": ("Sample",),
    "datacheck.profile.unit": ("UnitProfile",),
    "datacheck.profile.vocabulary": ("Vocabulary",),
    "datacheck.publishing.identity": ("InputState",),
    "datacheck.reports.accounts": ("RepairTotal",),
    "datacheck.row_spread": ("RowSpread",),
    "datacheck.sources.base": ("InputInfo", "ReadOptions", "WorkUnit"),
    "datacheck.storage.base": ("Fingerprint",),
}
_CLASSES = {name: module for module, names in _MODULES.items() for name in names}
#: Errors that are results, with what they are made of.
_ERRORS = frozenset({"CleaningError", "OutputError", "PipelineError", "SchemaError", "SourceError", "UsageError"})


@dataclass(frozen=True, slots=True)
class References:
    """What results refer to and both sides know.

    Attributes:
        objects: objects that are written as their position here, such as the rules of a plan.
        rules: the rules about the dataset whose state is a part of a result.
    """

    objects: Sequence[Any] = ()
    rules: Sequence[DatasetRule] = ()

    @classmethod
    def of(cls, stage: Stage) -> References:
        """What the results of a pass refer to."""
        return cls(stage.references, stage.rules)


def encode(value: Any, references: References) -> bytes:
    """A result as bytes. Raises ``TypeError`` for one that holds anything but results, plain values and ``references``."""
    writer = _Writer(references)
    tree = json.dumps(writer.tree(value), separators=(",", ":")).encode()
    rest = b"".join([len(tree).to_bytes(_LENGTH_BYTES, "little"), tree, *writer.buffers])
    return b"".join([_MAGIC, hashlib.sha256(rest).hexdigest().encode(), b"\n", rest])


def decode(content: bytes, references: References) -> list[Any]:
    """The results that :func:`encode` wrote as one list; raises ``DamagedError``."""
    rest = memoryview(content)[_FIRST:]
    is_ours = content[: len(_MAGIC)] == _MAGIC and len(content) >= _FIRST + _LENGTH_BYTES
    if not is_ours or content[len(_MAGIC) : _FIRST - 1] != hashlib.sha256(rest).hexdigest().encode():
        raise DamagedError("its checksum does not match its content")
    length = int.from_bytes(rest[:_LENGTH_BYTES], "little")
    try:
        tree = json.loads(bytes(rest[_LENGTH_BYTES : _LENGTH_BYTES + length]))
        kind, *items = tree
        if kind != "l":
            raise DamagedError("not a list of results")
        return _Reader(rest[_LENGTH_BYTES + length :], references).values(items)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, pa.ArrowException) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from None


@dataclass(slots=True)
class _Writer:
    """Turns values into a tree of JSON and buffers."""

    references: References
    buffers: list[bytes] = field(default_factory=list)
    _end: int = 0

    def tree(self, value: Any) -> Any:
        if value is None or type(value) in (bool, str, float, int):
            return value
        plain = _PLAIN.get(type(value))
        if plain is not None:
            return [plain, *map(self.tree, value)]
        if isinstance(value, dict):
            items = [[self.tree(key), self.tree(one)] for key, one in value.items()]
            return ["c" if isinstance(value, Counter) else "d", *items]
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        if isinstance(value, bytes):
            return ["b", *self._buffer(value)]
        if isinstance(value, np.dtype):
            return ["dtype", value.str]
        if isinstance(value, pa.Array | pa.Table):
            return self._arrow(value)
        if isinstance(value, Fraction | Decimal):
            return [type(value).__name__, str(value)]
        if isinstance(value, DatasetState):
            return ["dataset", self.tree(value.saved())]
        return self._object(value)

    def _object(self, value: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, DatacheckError) and name in _ERRORS:
            return ["error", name, *map(self.tree, value.__reduce__()[1])]
        if _CLASSES.get(name) == type(value).__module__:
            if isinstance(value, Enum):
                return ["enum", name, value.value]
            if is_dataclass(value):
                return ["o", name, *(self.tree(getattr(value, one.name)) for one in fields(value))]
            return ["state", name, self.tree(value.__getstate__())]
        for position, known in enumerate(self.references.objects):
            if type(known) is type(value) and known == value:
                return ["known", position]
        raise TypeError(f"{type(value).__module__}.{name} is not a result")

    def _array(self, value: np.ndarray[Any, Any] | np.generic) -> Any:
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of Python objects is not a result")
        kind = array.dtype.str if array.dtype.names is None else [list(one) for one in array.dtype.descr]
        place = self._buffer(np.ascontiguousarray(array).tobytes())
        return ["n" if isinstance(value, np.generic) else "a", kind, list(array.shape), *place]

    def _arrow(self, value: pa.Array | pa.Table) -> Any:
        is_table = isinstance(value, pa.Table)
        table = value if is_table else pa.table({"": value})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return ["table" if is_table else "arrow", *self._buffer(sink.getvalue().to_pybytes())]

    def _buffer(self, content: bytes) -> tuple[int, int]:
        start = self._end
        self.buffers.append(content)
        self._end += len(content)
        return start, len(content)


_PLAIN: dict[type[Any], str] = {list: "l", tuple: "t", set: "s", frozenset: "fs"}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns a tree of JSON and buffers into values."""

    buffers: memoryview
    references: References
    #: Names, and the options of reading, which all units of a file share.
    shared: dict[Any, Any] = field(default_factory=dict)

    def value(self, tree: Any) -> Any:
        if not isinstance(tree, list):
            return self.shared.setdefault(tree, tree) if isinstance(tree, str) else tree
        kind, *rest = tree
        return _READERS[kind](self, rest)

    def values(self, trees: Sequence[Any]) -> list[Any]:
        return [self.value(tree) for tree in trees]

    def items(self, trees: Sequence[Any]) -> dict[Any, Any]:
        return {self.value(key): self.value(one) for key, one in trees}

    def buffer(self, place: Sequence[int]) -> memoryview:
        start, length = place
        if start < 0 or length < 0 or start + length > len(self.buffers):
            raise DamagedError("a buffer lies outside the file")
        return self.buffers[start : start + length]

    def array(self, tree: Sequence[Any]) -> np.ndarray[Any, Any]:
        kind, shape, *place = tree
        dtype = np.dtype(kind if isinstance(kind, str) else [tuple(one) for one in kind])
        if dtype.hasobject:
            raise DamagedError("an array of Python objects")
        # A copy: what is merged into is changed.
        return np.frombuffer(self.buffer(place), dtype).reshape(shape).copy()

    def arrow(self, place: Sequence[int]) -> pa.Table:
        return pa.ipc.open_stream(pa.py_buffer(self.buffer(place).tobytes())).read_all()

    def error(self, tree: Sequence[Any]) -> DatacheckError:
        name, *arguments = tree
        if name not in _ERRORS:
            raise DamagedError(f"unknown error {name}")
        error: DatacheckError = load(f"datacheck.errors:{name}")(*self.values(arguments))
        return error

    def instance(self, tree: Sequence[Any]) -> Any:
        name, *written = tree
        kind, names = _class_of(name), _fields_of(name)
        made = kind.__new__(kind)
        for one, value in zip(names, self.values(written), strict=True):
            object.__setattr__(made, one, value)
        return self.shared.setdefault(made, made) if name == "ReadOptions" else made

    def restored(self, tree: Sequence[Any]) -> Any:
        name, written = tree
        kind = _class_of(name)
        made, state = kind.__new__(kind), self.value(written)
        if hasattr(kind, "__setstate__"):
            made.__setstate__(state)
            return made
        for some in state if isinstance(state, tuple) else (state,):
            for key, value in (some or {}).items():
                setattr(made, key, value)
        return made

    def dataset(self, saved: Any) -> DatasetState:
        return DatasetState.restore(self.references.rules, self.value(saved))


@cache
def _class_of(name: str) -> Any:
    return load(f"{_CLASSES[name]}:{name}")


@cache
def _fields_of(name: str) -> tuple[str, ...]:
    return tuple(one.name for one in fields(_class_of(name)))


_READERS: dict[str, Callable[[_Reader, list[Any]], Any]] = {
    "l": lambda reader, rest: reader.values(rest),
    "t": lambda reader, rest: tuple(reader.values(rest)),
    "s": lambda reader, rest: set(reader.values(rest)),
    "fs": lambda reader, rest: frozenset(reader.values(rest)),
    "d": lambda reader, rest: reader.items(rest),
    "c": lambda reader, rest: Counter(reader.items(rest)),
    "b": lambda reader, rest: reader.buffer(rest).tobytes(),
    "a": lambda reader, rest: reader.array(rest),
    "n": lambda reader, rest: reader.array(rest)[()],
    "dtype": lambda _, rest: np.dtype(rest[0]),
    "arrow": lambda reader, rest: reader.arrow(rest).column(0).combine_chunks(),
    "table": lambda reader, rest: reader.arrow(rest),
    "Fraction": lambda _, rest: Fraction(rest[0]),
    "Decimal": lambda _, rest: Decimal(rest[0]),
    "error": lambda reader, rest: reader.error(rest),
    "enum": lambda _, rest: _class_of(rest[0])(rest[1]),
    "o": lambda reader, rest: reader.instance(rest),
    "state": lambda reader, rest: reader.restored(rest),
    "known": lambda reader, rest: reader.references.objects[rest[0]],
    "dataset": lambda reader, rest: reader.dataset(rest[0]),
}
