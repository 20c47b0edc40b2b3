"""WebDataset shards: tar archives whose members make samples by the part of their names before the first dot.

``.pyd``, ``.pkl`` and other members whose content is code are not decoded.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column, Fault, RawRecords
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES
from datacheck.leaves import BoolArray
from datacheck.sources.arrays import MAX_HEADER_BYTES, ArrayLayout, parse_npy_header
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
)
from datacheck.sources.error_translation import check_members, translate_inspect_errors, translate_read_errors
from datacheck.sources.json_columns import JsonColumns
from datacheck.sources.json_values import load_sample
from datacheck.sources.media import problem_of
from datacheck.sources.packed import open_packed
from datacheck.sources.tar_members import Member, TarProblem, read_members
from datacheck.text import plain

#: The column of the keys, as WebDataset calls it.
KEY = "__key__"
#: A larger member is not decoded; nor are the rest of a sample's members once it has that many bytes.
MAX_MEMBER_BYTES = 256 << 20
_MAX_ROWS = 4096
_INTEGERS = ("cls", "cls2", "index", "inx", "idx", "id")
_TEXTS = ("txt", "text", "transcript", "caption")


class TarSource:
    """Reads shards: one row per sample, one column per suffix, with the decoded values of npy, json, cls and txt."""

    format: ClassVar[str] = "tar"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        with open_packed(uri, options) as stream:
            first = next(iter(read_members(stream, 0)), None)
        if isinstance(first, TarProblem) and first.offset == 0:
            raise SourceError("DC901", uri, f"it is not a tar archive, or it is damaged: {first.problem}", REWRITE_FILE)
        unit = WorkUnit(uri, self.format, 0, fingerprint, options=options)
        return InputInfo(uri, self.format, fingerprint.size, None, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        row, groups = 0, _groups(unit)
        types: dict[str, str] = {}
        while (group := next(groups, None)) is not None:
            batch = _batch(group[0], row, unit, group[1], types)
            row += len(group[0])
            del group
            yield batch
            # The next samples are read into the memory of these.
            del batch
        if not row:
            yield Batch((), 0)


@dataclass(slots=True)
class _Sample:
    """The members of one key that lie beside each other."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    num_bytes: int = 0
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    is_whole: bool = True

    def add(self, suffix: str, member: Member) -> None:
        self.raw += member.raw
        self.num_bytes += member.num_bytes
        if suffix in self.members:
            self.faults.append(("DC013", suffix, f"two members are called {plain(self.key)}.{plain(suffix)}"))
            return
        if member.data is None or self.num_bytes > MAX_MEMBER_BYTES:
            problem = member.problem or f"its sample has {self.num_bytes:,} bytes, too many to be decoded"
            self.faults.append(("DC601", suffix, problem))
            self.is_whole = self.is_whole and bool(member.raw)
            member = Member(member.name, member.offset, member.size, None, ())
        self.members[suffix] = member


def split_name(name: str) -> tuple[str, str] | None:
    """The key of a member and its suffix in lower case, as WebDataset tells them; None for a member of no sample."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (f"{folder}{slash}{stem}", suffix.lower()) if stem and dot else None


def key_of(sample: bytes) -> str | None:
    """The key of a sample that was taken out of a shard with its headers; None if it has none."""
    for member in read_members(io.BytesIO(sample), MAX_MEMBER_BYTES):
        if isinstance(member, TarProblem):
            return None
        if (named := split_name(member.name)) is not None:
            return named[0]
    return None


def _groups(unit: WorkUnit) -> Iterator[tuple[list[_Sample], list[SourceError]]]:
    """Samples, enough for a batch each, with what is wrong with the archive up to there."""
    samples: list[_Sample] = []
    problems: list[SourceError] = []
    seen: set[int] = set()
    num_bytes = 0
    with open_packed(unit.uri, unit.options) as stream:
        for member in read_members(stream, min(MAX_MEMBER_BYTES, unit.options.max_bytes_at_once)):
            if isinstance(member, TarProblem):
                problems.append(_problem(unit, member))
                continue
            named = split_name(member.name)
            if named is None:
                continue
            key, suffix = named
            if not samples or samples[-1].key != key:
                if samples and (num_bytes >= TARGET_BATCH_BYTES or len(samples) >= _MAX_ROWS):
                    group = samples, problems
                    samples, problems, num_bytes = [], [], 0
                    yield group
                    del group
                samples.append(_Sample(key))
                if (known := hash(key)) in seen:
                    samples[-1].faults.append(("DC013", KEY, f"the members of {plain(key)!r} are in several places"))
                seen.add(known)
            samples[-1].add(suffix, member)
            num_bytes += member.num_bytes
            # The next one is read into the memory of this one, unless its sample has it.
            del member
    if samples or problems:
        yield samples, problems


def _problem(unit: WorkUnit, found: TarProblem) -> SourceError:
    rest = "; the samples before it were read" if found.is_end else ""
    error = SourceError("DC901", unit.uri, f"at byte {found.offset:,}: {found.problem}{rest}", "write the shard again")
    if not unit.options.keep_going:
        raise error
    return error


def _batch(
    samples: list[_Sample], row: int, unit: WorkUnit, problems: list[SourceError], types: dict[str, str]
) -> Batch:
    wanted = unit.options.columns
    suffixes = dict.fromkeys(suffix for sample in samples for suffix in sample.members)
    # Every suffix is a column, with a value for every sample.
    what = f"suffixes in {len(samples):,} samples (a suffix begins at the first dot of a name)"
    check_members(unit.uri, len(suffixes), unit.options.max_members // 100, what)
    keys = [sample.key.encode("utf-8", "replace").decode() for sample in samples]
    columns = [Column(KEY, _texts(list(keys)))] if samples else []
    found = [(index, *fault) for index, sample in enumerate(samples) for fault in sample.faults]
    faults: list[Fault] = []
    for suffix in suffixes:
        if wanted is None or suffix in wanted:
            members = [sample.members.get(suffix) for sample in samples]
            column, bad, of_column = _column(suffix, members, JsonColumns(dict(unit.options.dtypes), types))
            columns.append(column)
            found += [(index, "DC601", suffix, problem) for index, problem in bad]
            faults += of_column
    faults += _faults(found, len(samples))
    columns = [column for column in columns if wanted is None or column.name in wanted]
    raw = RawRecords(TarSource.format, lambda: _joined([sample.raw if sample.is_whole else None for sample in samples]))
    return Batch(
        tuple(columns),
        len(samples),
        row,
        unreadable=tuple(problems),
        faults=tuple(faults),
        raw=raw,
        is_ragged=True,
        keys=tuple(keys),
    )


def _faults(found: list[tuple[int, str, str, str]], num_rows: int) -> Iterator[Fault]:
    by_code: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for index, code, suffix, problem in sorted(found):
        by_code.setdefault((code, suffix), []).append((index, problem))
    for (code, suffix), some in by_code.items():
        rows = np.array([index for index, _ in some], np.int64)
        yield Fault(code, suffix, num_rows, rows, tuple(some[:MAX_EXAMPLES]), some[0][1])


def _column(
    suffix: str, members: list[Member | None], builder: JsonColumns
) -> tuple[Column, list[tuple[int, str]], list[Fault]]:
    """The column of a suffix, the members that cannot be decoded, and the faults of records of JSON."""
    missing = np.array([member is None for member in members], np.bool_)
    kind = suffix.rpartition(".")[2]
    decode = _DECODERS.get(kind)
    values: list[Any] = [None if member is None else member.data for member in members]
    bad: list[tuple[int, str]] = []
    if decode is not None:
        for index, value in enumerate(values):
            if value is not None:
                try:
                    values[index] = decode(value)
                except Exception as error:  # NumPy and json raise anything on damaged bytes
                    bad.append((index, problem_of(error)))
                    values[index] = None
    absent = np.array([value is None for value in values], np.bool_)
    if kind == "json":
        nulls = np.array([value is _NULL for value in values], np.bool_)
        data = builder.array(suffix, [None if value is _NULL else value for value in values])
        absent &= ~nulls
    elif kind == "npy":
        data = _arrays(values)
    else:
        data = _integers(values) if kind in _INTEGERS else _texts(values) if kind in _TEXTS else _binaries(values)
    masks = {**builder.absent, suffix: absent | builder.absent.get(suffix, False)} if absent.any() else builder.absent
    faults = builder.faults
    if missing.any():
        faults = [*faults, Fault("DC107", suffix, len(members), np.flatnonzero(missing))]
    return Column(suffix, data, absent=masks or None), bad, faults


_NULL = object()


def _json(member: memoryview) -> Any:
    data = bytes(member)
    value = load_sample(data)
    if b"\\u" in data:
        json.dumps(value, ensure_ascii=False).encode()
    return _NULL if value is None else value


@lru_cache(maxsize=256)
def _npy_header(data: bytes) -> tuple[ArrayLayout, int]:
    return parse_npy_header(io.BytesIO(data).read, "", "npy")


def _npy(data: memoryview) -> np.ndarray[Any, Any]:
    # Most members of a shard have the same header.
    width = 2 if bytes(data[6:7]) == b"\1" else 4
    num_bytes = 8 + width + min(int.from_bytes(data[8 : 8 + width], "little"), MAX_HEADER_BYTES)
    layout, header = _npy_header(bytes(data[:num_bytes]))
    if layout.dtype.kind not in "biuf" or layout.dtype.itemsize > 8:
        raise ValueError(f"its dtype {layout.dtype} is not decoded")
    if header + layout.num_bytes != len(data):
        raise ValueError(f"its header says {layout.num_bytes:,} bytes, but there are {len(data) - header:,}")
    flat = np.frombuffer(data, layout.dtype, offset=header)
    return flat.astype(layout.dtype.newbyteorder("="), copy=False)


_DECODERS: dict[str, Callable[[memoryview], Any]] = {
    "json": _json,
    "npy": _npy,
    **dict.fromkeys(_INTEGERS, lambda data: int(bytes(data))),
    **dict.fromkeys(_TEXTS, lambda data: str(data, "utf-8")),
}


def _bitmap(values: list[Any]) -> pa.Buffer | None:
    valid: BoolArray = np.array([value is not None for value in values], np.bool_)
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _texts(values: list[Any]) -> pa.Array:
    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


def _integers(values: list[Any]) -> pa.Array:
    return JsonColumns({}).array("", values)


def _binaries(values: list[Any]) -> pa.Array:
    return _joined([None if value is None else [value] for value in values])


def _joined(values: list[list[Any] | None]) -> pa.Array:
    """Binary values, each of some pieces of bytes, which are copied once."""
    pieces = [value or [] for value in values]
    offsets = np.cumsum([0, *(sum(map(len, value)) for value in pieces)], dtype=np.int64)
    data = pa.py_buffer(b"".join(itertools.chain.from_iterable(pieces)))
    return pa.Array.from_buffers(pa.large_binary(), len(values), [_bitmap(values), pa.py_buffer(offsets), data])


def _arrays(values: list[Any]) -> pa.Array:
    """Arrays as lists of their values, whatever their shapes."""
    arrays = [value for value in values if value is not None]
    dtype = np.result_type(*{array.dtype for array in arrays}) if arrays else np.dtype(np.float32)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    arrays = [array.astype(dtype, copy=False) for array in arrays] or [np.empty(0, dtype)]
    flat = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    inner = pa.Array.from_buffers(pa.from_numpy_dtype(dtype), len(flat), [None, pa.py_buffer(flat)])
    offsets = np.cumsum([0, *(0 if value is None else len(value) for value in values)], dtype=np.int64)
    kind = pa.large_list(inner.type)
    return pa.Array.from_buffers(kind, len(values), [_bitmap(values), pa.py_buffer(offsets)], children=[inner])
