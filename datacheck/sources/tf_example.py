"""``tf.train.Example`` and ``SequenceExample`` without TensorFlow: their descriptors, and records as Arrow columns.

The messages are those of https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/example.proto.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from datacheck.batch import Column, Fault
from datacheck.leaves import IntArray
from datacheck.sources.protobuf_wire import fields_of
from datacheck.sources.tf_template import FixedFeature, read_by_template

_NUMPY: dict[str, np.dtype[Any]] = {"float_list": np.dtype(np.float32), "int64_list": np.dtype(np.int64)}
_ARROW: dict[str, pa.DataType] = {"float_list": pa.float32(), "int64_list": pa.int64(), "bytes_list": pa.large_binary()}
_NAMES = {"float_list": "floats", "int64_list": "integers", "bytes_list": "bytes"}


@functools.cache
def _classes() -> dict[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="datacheck/example.proto", package="datacheck", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, str], oneof: str = "") -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind, of in fields:
            repeated = kind != kinds.TYPE_MESSAGE or oneof == "repeated"
            added = made.field.add(name=label, number=number, type=kind, label=3 if repeated else 1)
            if of:
                added.type_name = f".datacheck.{of}"
            if oneof == "kind":
                added.oneof_index = 0
        if oneof == "kind":
            made.oneof_decl.add(name="kind")
        return made

    def message_map(name: str, label: str, of: str) -> None:
        made = file.message_type.add(name=name)
        entry = made.nested_type.add(name="Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
        entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, label=1, type_name=f".datacheck.{of}")
        made.field.add(name=label, number=1, type=kinds.TYPE_MESSAGE, label=3, type_name=f".datacheck.{name}.Entry")
        entry.name = "".join(part.capitalize() for part in label.split("_")) + "Entry"
        made.field[0].type_name = f".datacheck.{name}.{entry.name}"

    message("BytesList", ("value", 1, kinds.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, kinds.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, kinds.TYPE_INT64, ""))
    lists = [("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List")]
    message("Feature", *((label, number, kinds.TYPE_MESSAGE, of) for label, number, of in lists), oneof="kind")
    message_map("Features", "feature", "Feature")
    message("FeatureList", ("feature", 1, kinds.TYPE_MESSAGE, "Feature"), oneof="repeated")
    message_map("FeatureLists", "feature_list", "FeatureList")
    message("Example", ("features", 1, kinds.TYPE_MESSAGE, "Features"))
    message(
        "SequenceExample",
        ("context", 1, kinds.TYPE_MESSAGE, "Features"),
        ("feature_lists", 2, kinds.TYPE_MESSAGE, "FeatureLists"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("Example", "SequenceExample")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"datacheck.{name}")) for name in names}


def example_class() -> Any:
    return _classes()["Example"]


def sequence_class() -> Any:
    return _classes()["SequenceExample"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the first records of a file are: whether they are sequences or opaque, and which features have one value each."""

    is_sequence: bool = False
    is_opaque: bool = False
    scalars: frozenset[str] = frozenset()


#: What a message, or a value of bytes, takes in memory.
_BYTES_OF_OBJECT = 200
_Nested: TypeAlias = "Mapping[int, _Nested]"
#: The messages in an example by the numbers of their fields; other fields are values.
_NUMBERS: _Nested = {}
_FEATURE: _Nested = {1: {}, 2: _NUMBERS, 3: _NUMBERS}
_FEATURES: _Nested = {1: {2: _FEATURE}}
_EXAMPLE: _Nested = {1: _FEATURES, 2: {1: {2: {1: _FEATURE}}}}


def layout_of(records: Sequence[bytes]) -> Layout:
    """The layout of a file by its first records."""
    has_features = is_sequence = False
    scalars: dict[str, bool] = {}
    for record in records:
        parsed = _parse(record, sequence_class())
        if parsed is None:
            continue
        is_sequence = is_sequence or bool(parsed.feature_lists.feature_list)
        has_features = has_features or is_sequence or bool(parsed.context.feature)
        for name, feature in parsed.context.feature.items():
            kind = feature.WhichOneof("kind")
            size = len(getattr(feature, kind).value) if kind else 0
            scalars[name] = scalars.get(name, True) and size == 1
    if not has_features:
        return Layout(is_opaque=bool(records))
    return Layout(is_sequence, False, frozenset(name for name, is_scalar in scalars.items() if is_scalar))


def parsed_size(record: bytes, limit: int) -> int:
    """About the bytes that a record takes once it is parsed, counted until they exceed ``limit``; without parsing it.

    A feature without values has six bytes in a file and hundreds in memory, a value of ``bytes`` two and a hundred. The
    bytes themselves are in the record, in what is parsed of it, and in a column.
    """
    size = 4 * len(record)
    with suppress(ValueError):  # it will be found damaged
        size += _parsed_size(memoryview(record), _EXAMPLE, limit - size)
    return size


def _parsed_size(message: memoryview, nested: _Nested, limit: int) -> int:
    size = 0
    for number, value in fields_of(message):
        size += _BYTES_OF_OBJECT
        inner = nested.get(number)
        if inner is not None and isinstance(value, memoryview):
            # A number has one byte at least.
            size += 8 * len(value) if inner is _NUMBERS else _parsed_size(value, inner, limit - size)
        if size > limit:
            break
    return size


def _parse(record: bytes, kind: Any) -> Any:
    try:
        return kind.FromString(record)
    except Exception:  # protobuf's DecodeError, of whichever implementation is installed
        return None


@dataclass(slots=True)
class _Feature:
    """The values of one feature in the records of a batch."""

    kind: str
    rows: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    dtype: np.dtype[Any] | None = None

    def __post_init__(self) -> None:
        self.dtype = _NUMPY.get(self.kind)


class ExampleColumns:
    """Collects the features of records, and makes columns of them."""

    def __init__(self, layout: Layout, wanted: Sequence[str] | None) -> None:
        self._layout, self._wanted = layout, None if wanted is None else set(wanted)
        self._class = sequence_class() if layout.is_sequence else example_class()
        self._features: dict[str, _Feature] = {}
        self._steps: dict[str, _Feature] = {}
        self._fixed: dict[str, FixedFeature] = {}
        self.num_rows = 0

    def add_all(self, records: Sequence[bytes]) -> list[bool]:
        """Add the records of a batch; whether each could be parsed."""
        fixed = None if self._layout.is_sequence else read_by_template(records)
        if fixed is None or any(
            (one.values.shape[1] != 1) is (name in self._layout.scalars)
            for name, one in fixed.items()
            if one.kind != "bytes_list"
        ):
            return [self.add(record) for record in records]
        self._fixed = {name: one for name, one in fixed.items() if self._wanted is None or name in self._wanted}
        self.num_rows = len(records)
        return [True] * len(records)

    def add(self, record: bytes) -> bool:
        """Add a record; whether it could be parsed."""
        try:
            parsed = self._class.FromString(record)
        except Exception:  # protobuf's DecodeError, of whichever implementation is installed
            return False
        row, features = self.num_rows, parsed.context if self._layout.is_sequence else parsed.features
        wanted, known, scalars = self._wanted, self._features, self._layout.scalars
        fields = features.feature
        # items() of protobuf's maps is a generator in Python.
        for name in fields:
            if wanted is not None and name not in wanted:
                continue
            feature, held = fields[name], known.get(name)
            if held is not None:
                # Most features are of the kind that they were before: no need to ask which it is.
                values = getattr(feature, held.kind).value
                if len(values) == 1 if name in scalars else len(values) and held.dtype is not None:
                    held.rows.append(row)
                    held.values.append(values[0] if name in scalars else _numbers(values, held.dtype))
                    continue
            self._add_feature(row, name, feature)
        if self._layout.is_sequence:
            for name, steps in parsed.feature_lists.feature_list.items():
                if self._wanted is None or name in self._wanted:
                    self._add_steps(row, name, steps.feature)
        self.num_rows += 1
        return True

    def _add_feature(self, row: int, name: str, feature: Any) -> None:
        kind = feature.WhichOneof("kind")
        if kind is None:
            return
        held = self._features.get(name)
        if held is None:
            held = self._features[name] = _Feature(kind)
        values = getattr(feature, kind).value
        if kind != held.kind:
            held.others.append((row, _NAMES[kind]))
        elif name in self._layout.scalars and len(values) != 1:
            held.others.append((row, f"{len(values):,} values"))
        else:
            held.rows.append(row)
            # One value at a time is cheaper than arrays of one.
            held.values.append(values[0] if name in self._layout.scalars else _as_array(values, kind))

    def _add_steps(self, row: int, name: str, steps: Any) -> None:
        kinds = {step.WhichOneof("kind") for step in steps} - {None}
        held = self._steps.get(name)
        if held is None:
            held = self._steps[name] = _Feature(next(iter(kinds), "float_list"))
        if kinds <= {held.kind}:
            held.rows.append(row)
            held.values.append([_as_array(getattr(step, held.kind).value, held.kind) for step in steps])
        else:
            held.others.append((row, " and ".join(_NAMES[kind] for kind in sorted(kinds))))

    def columns(self) -> tuple[list[Column], list[Fault]]:
        """One column per feature, and the faults: records without it, and values of another type."""
        columns: list[Column] = [self._fixed_column(name, one) for name, one in sorted(self._fixed.items())]
        faults: list[Fault] = []
        for name, held in sorted(self._features.items()):
            values = held.values
            if name in self._layout.scalars:
                data = _take(pa.array(values, _ARROW[held.kind]), held.rows, self.num_rows)
            else:
                data = _lists(_flat(values, held.kind), [len(one) for one in values], held.rows, self.num_rows)
            columns.append(self._column(name, data, held, faults))
        for name, held in sorted(self._steps.items()):
            steps = [step for one in held.values for step in one]
            inner = _lists(_flat(steps, held.kind), [len(step) for step in steps])
            data = _lists(inner, [len(one) for one in held.values], held.rows, self.num_rows)
            columns.append(self._column(name, data, held, faults))
        return columns, faults

    def _fixed_column(self, name: str, one: FixedFeature) -> Column:
        """A feature that has equally many values in each record; of bytes always one."""
        num_rows, size = one.values.shape
        if one.kind == "bytes_list":
            offsets = pa.py_buffer(np.arange(num_rows + 1, dtype=np.int64) * size)
            flat = pa.Array.from_buffers(_ARROW[one.kind], num_rows, [None, offsets, pa.py_buffer(one.values)])
            size = 1
        else:
            flat = pa.array(one.values.reshape(-1), _ARROW[one.kind])
        return Column(name, flat if name in self._layout.scalars else _lists(flat, [size] * num_rows))

    def _column(self, name: str, data: pa.Array, held: _Feature, faults: list[Fault]) -> Column:
        absent = np.ones(self.num_rows, np.bool_)
        absent[held.rows] = False
        if held.others:
            rows = np.array([row for row, _ in held.others], np.int64)
            expected = "one value" if name in self._layout.scalars else _NAMES[held.kind]
            detail = f"{held.others[0][1]} where most records have {expected}"
            faults.append(Fault("DC012", name, self.num_rows, rows, tuple(held.others[:5]), detail))
        without = absent.copy()
        without[[row for row, _ in held.others]] = False
        if without.any():
            faults.append(Fault("DC107", name, self.num_rows, np.flatnonzero(without)))
        marks: Mapping[str, Any] | None = {name: absent} if absent.any() else None
        return Column(name, data, absent=marks)


def _as_array(values: Any, kind: str) -> Any:
    dtype = _NUMPY.get(kind)
    return list(values) if dtype is None else _numbers(values, dtype)


def _numbers(values: Any, dtype: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """The values of a list of protobuf. NumPy would copy the array that such a list makes of itself."""
    found: np.ndarray[Any, Any] = values.__array__(dtype) if hasattr(values, "__array__") else np.array(values, dtype)
    return found


def _flat(values: list[Any], kind: str) -> pa.Array:
    dtype = _NUMPY.get(kind)
    if dtype is None:
        return pa.array([one for some in values for one in some], _ARROW[kind])
    return pa.array(np.concatenate([np.empty(0, dtype), *values], dtype=dtype))


def _take(flat: pa.Array, rows: list[int], num_rows: int) -> pa.Array:
    """One value per row, null in the other rows."""
    if len(rows) == num_rows:
        return flat
    places = np.full(num_rows, -1, np.int64)
    places[rows] = np.arange(len(rows))
    return flat.take(pa.array(places, mask=places < 0))


def _lists(flat: pa.Array, lengths: list[int], rows: list[int] | None = None, num_rows: int = 0) -> pa.Array:
    """One list per row; null in rows that are not among ``rows``."""
    every: IntArray = np.asarray(lengths, np.int64)
    mask = None
    if rows is not None and len(rows) < num_rows:
        every = np.zeros(num_rows, np.int64)
        every[rows] = lengths
        mask = np.ones(num_rows, np.bool_)
        mask[rows] = False
    offsets = np.zeros(len(every) + 1, np.int64)
    np.cumsum(every, out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat, mask=None if mask is None else pa.array(mask))
