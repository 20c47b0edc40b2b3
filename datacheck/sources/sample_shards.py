"""Shards of samples with an ``index.json``: MDS of MosaicML Streaming, and chunks of LitData.

Both begin with the number of samples and the place of each, and a sample with the sizes of its fields. What a field is
encoded as the index says. Pickles are never loaded.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, ClassVar, Protocol, cast

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column, Fault, MalformedRow, RawRecords
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
)
from datacheck.sources.dataset_folders import log_errors, part_of
from datacheck.sources.discover import InputFile
from datacheck.sources.error_translation import (
    check_bytes,
    check_expansion,
    check_records,
    translate_inspect_errors,
    translate_read_errors,
)
from datacheck.sources.folder_recognizers import SHARD_INDEX, read_index
from datacheck.sources.packed import ByteStream, is_packed, open_packed
from datacheck.sources.sample_encodings import Encoding, litdata_encoding, mds_encoding
from datacheck.storage.registry import open_file
from datacheck.text import plain

_HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512", "md5", "blake2b", "blake2s")
#: What the index says about the fields of a shard.
MDS_LAYOUT = ("column_names", "column_encodings", "column_sizes")
#: Samples of no bytes take memory, too.
_MAX_BATCH_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a sample; ``size`` is None if each sample says how many bytes it has."""

    name: str
    encoding: Encoding
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Shard:
    """What the index says about one shard; ``layout`` is empty where samples cannot be copied."""

    fields: tuple[_Field, ...]
    num_samples: int
    num_bytes: int
    hashes: tuple[tuple[str, str], ...] = ()
    layout: str = ""


class _ShardSource:
    """Reads one shard, which is one unit."""

    format: ClassVar[str]

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        shard = self._described(uri)
        unit = WorkUnit(uri, self.format, 0, fingerprint, 0, shard.num_samples, options=options)
        return InputInfo(uri, self.format, fingerprint.size, shard.num_samples, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        shard = self._described(unit.uri)
        if unit.options.verify_checksums and (finding := _wrong_hash(unit, shard)):
            yield Batch((), 0, counts_rows=False, findings=(finding,))
        with open_packed(unit.uri, unit.options) as stream:
            if not is_packed(unit.uri):
                yield from _Samples(unit, shard, cast("BinaryIO", stream), unit.fingerprint.size).batches()
                return
            check_records(unit.uri, shard.num_samples, unit.fingerprint.size, unit.options)
            content = _Unpacked(unit.uri, stream, shard.num_bytes)
            yield from _Samples(unit, shard, content, shard.num_bytes).batches()
            content.check_end()

    def _described(self, uri: str) -> _Shard:
        folder, name = posixpath.split(uri)
        try:
            record = read_index(folder)
        except FileNotFoundError:
            problem = f"{SHARD_INDEX}, which says what its samples are, is not beside it"
            raise SourceError("DC911", uri, problem, "fetch it, too") from None
        found = self._find(record, name)
        if found is None:
            raise SourceError(
                "DC912",
                uri,
                f"{SHARD_INDEX} does not name it",
                "delete it if it is left over, or write the index again",
            )
        return found

    def _find(self, record: Any, name: str) -> _Shard | None:
        raise NotImplementedError


class MdsSource(_ShardSource):
    """Reads ``.mds`` shards."""

    format: ClassVar[str] = "mds"

    def _find(self, record: Any, name: str) -> _Shard | None:
        for shard in record["shards"]:
            parts = [shard.get("raw_data"), shard.get("zip_data")]
            part = next((one for one in parts if one and posixpath.basename(one["basename"]) == name), None)
            if part is None:
                continue
            columns = zip(*(shard[key] for key in MDS_LAYOUT), strict=True)
            fields = tuple(_Field(str(label), mds_encoding(str(kind)), size) for label, kind, size in columns)
            hashes = tuple((str(kind), str(value)) for kind, value in (part.get("hashes") or {}).items())
            layout = json.dumps({key: shard[key] for key in MDS_LAYOUT})
            return _Shard(fields, int(shard["samples"]), int(shard["raw_data"]["bytes"]), hashes, layout)
        return None


class LitdataSource(_ShardSource):
    """Reads chunks of LitData."""

    format: ClassVar[str] = "litdata"

    def _find(self, record: Any, name: str) -> _Shard | None:
        config = record["config"]
        if config.get("compression") or config.get("encryption"):
            raise ValueError("its chunks are compressed or encrypted, which is not supported")
        if config.get("item_loader") not in (None, "PyTreeLoader"):
            raise ValueError(f"its chunks are those of {plain(str(config['item_loader']), 40)}, which is not supported")
        kinds = list(map(str, config["data_format"]))
        names = _leaf_names(config.get("data_spec"), len(kinds))
        fields = tuple(_Field(label, litdata_encoding(kind)) for label, kind in zip(names, kinds, strict=True))
        for chunk in record["chunks"]:
            if chunk["filename"] == name:
                return _Shard(fields, int(chunk["chunk_size"]), int(chunk["chunk_bytes"]))
        return None


def _leaf_names(spec: Any, number: int) -> list[str]:
    """The keys of a sample that is a mapping, in the order of its leaves; numbers for any other."""
    try:
        tree = json.loads(spec)[1]
        context = tree["context"]
        names = json.loads(context) if isinstance(context, str) else context
        if isinstance(names, list) and len(names) == number:
            return list(map(str, names))
    except (ValueError, TypeError, LookupError):
        pass
    return [str(index) for index in range(number)] if number != 1 else ["value"]


def list_litdata(uri: str, options: ReadOptions) -> list[InputFile]:
    """The chunks that the index of a folder names."""
    with log_errors(uri, "write the dataset again"):
        record = read_index(uri)
        return [InputFile(part_of(uri, chunk["filename"]), options, LitdataSource.format) for chunk in record["chunks"]]


class _Content(Protocol):
    """The bytes of a shard: a file, or what it expands to."""

    def seek(self, offset: int, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


class _Unpacked:
    """What a compressed shard expands to, from its beginning to its end; raises ``SourceError`` where that is not its size."""

    def __init__(self, uri: str, stream: ByteStream, num_bytes: int) -> None:
        self._uri, self._stream, self._num_bytes, self._at = uri, stream, num_bytes, 0

    def seek(self, offset: int) -> int:
        if offset < self._at:
            raise SourceError("DC901", self._uri, "its samples do not follow each other", REWRITE_FILE)
        while self._at < offset:
            self.read(min(offset - self._at, TARGET_BATCH_BYTES))
        return offset

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        stop = self._at + size
        while self._at < stop:
            parts.append(self._stream.read(stop - self._at))
            self._at += len(parts[-1])
            if not parts[-1]:
                raise self._wrong_size()
        return b"".join(parts)

    def check_end(self) -> None:
        self.seek(self._num_bytes)
        if self._stream.read(1):
            raise self._wrong_size()

    def _wrong_size(self) -> SourceError:
        problem = f"it does not expand to the {self._num_bytes:,} bytes of {SHARD_INDEX}"
        return SourceError("DC901", self._uri, problem, REWRITE_FILE)


def _wrong_hash(unit: WorkUnit, shard: _Shard) -> Finding | None:
    for kind, expected in shard.hashes:
        if kind in _HASHES:
            digest = hashlib.new(kind, usedforsecurity=False)
            with open_file(unit.uri) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != expected:
                detail = f"its {kind} is not the one in {SHARD_INDEX}: its bytes have changed; {REWRITE_FILE}"
                return Finding("DC901", unit.uri, None, 1, 1, detail=detail)
    return None


class _Samples:
    """The samples of a shard, as batches of columns; one batch is in memory."""

    def __init__(self, unit: WorkUnit, shard: _Shard, file: _Content, size: int) -> None:
        self._unit, self._shard, self._file, self._size = unit, shard, file, size
        head = self._read(0, 4)
        count = int.from_bytes(head, "little") if len(head) == 4 else -1
        if count != shard.num_samples:
            raise SourceError(
                "DC901", unit.uri, f"it has {count:,} samples, {SHARD_INDEX} says {shard.num_samples:,}", REWRITE_FILE
            )
        if 4 * (count + 2) > self._size:
            raise SourceError(
                "DC901", unit.uri, "the file ends inside the places of its samples", "it is truncated: rewrite it"
            )
        self._offsets = np.frombuffer(self._read(4, 4 * (count + 2)), "<u4")
        lengths = np.diff(self._offsets.astype(np.int64))
        is_read = (lengths >= 0) & (self._offsets[1:] <= size)
        # Damaged places may let each sample be most of the file.
        self._ends = np.cumsum(np.where(is_read, lengths, 0))
        check_expansion(unit.uri, int(self._ends[-1]) if count else 0, size, 1, unit.options)
        self._sizes = [(field.name, field.size) for field in shard.fields]

    def batches(self) -> Iterator[Batch]:
        start, wanted = 0, self._unit.options.columns
        fields = [(index, one) for index, one in enumerate(self._shard.fields) if wanted is None or one.name in wanted]
        while start < self._shard.num_samples or start == 0:
            before = self._ends[start - 1] if start else 0
            stop = int(np.searchsorted(self._ends, before + TARGET_BATCH_BYTES))
            stop = max(start + 1, min(stop, self._shard.num_samples, start + _MAX_BATCH_SAMPLES))
            yield self._batch(start, min(stop, self._shard.num_samples), fields)
            start = stop

    def _batch(self, start: int, stop: int, fields: Sequence[tuple[int, _Field]]) -> Batch:
        rows: list[int] = []
        samples: list[memoryview] = []
        values: list[list[memoryview]] = []
        malformed: list[MalformedRow] = []
        for row, sample in zip(range(start, stop), self._samples(start, stop), strict=True):
            try:
                parts = split_sample(self._checked(row, sample), self._sizes)
                for index, field in fields:
                    field.encoding.check(parts[index])
                values.append(parts)
                samples.append(sample)
                rows.append(row)
            except (ValueError, LookupError, TypeError, OverflowError) as error:
                malformed.append(MalformedRow(row, "", plain(str(error), 200)))
        columns: list[Column] = []
        faults: list[Fault] = []
        for index, field in fields:
            columns.append(field.encoding.column(field.name, [parts[index] for parts in values]))
            faults += field.encoding.faults
        places = np.array(rows, np.int64) if malformed else None
        raw = None
        if self._shard.layout:
            make = partial(_binaries, samples)
            raw = RawRecords(MdsSource.format, make, self._shard.layout)
        return Batch(
            tuple(columns), len(rows), start, rows=places, malformed=tuple(malformed), raw=raw, faults=tuple(faults)
        )

    def _samples(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes of samples, which lie one after the other unless their places are damaged: then none of a wrong one."""
        places = self._offsets[start : stop + 1].astype(np.int64)
        is_sound = bool((np.diff(places) >= 0).all()) and places[-1] <= self._size
        whole = memoryview(self._read(int(places[0]), int(places[-1]))) if is_sound and len(places) > 1 else None
        for begin, end in itertools.pairwise(places.tolist()):
            if whole is not None:
                yield whole[begin - places[0] : end - places[0]]
            else:
                yield memoryview(self._read(begin, end) if begin <= end <= self._size else b"")

    def _checked(self, row: int, sample: memoryview) -> memoryview:
        """The bytes of a sample; raises ``ValueError`` where its place is not in the file."""
        begin, end = self._offsets[row : row + 2].tolist()
        if not begin <= end <= self._size:
            raise ValueError(f"its bytes {begin:,} to {end:,} are not in the file of {self._size:,}")
        return sample

    def _read(self, begin: int, end: int) -> bytes:
        check_bytes(self._unit.uri, end - begin, self._unit.options.max_bytes_at_once, "a sample")
        self._file.seek(begin)
        return self._file.read(end - begin)


def _binaries(samples: Sequence[memoryview]) -> pa.Array:
    return pa.array([bytes(sample) for sample in samples], pa.large_binary())


def split_sample(data: memoryview, sizes: Sequence[tuple[str, int | None]]) -> list[memoryview]:
    """The bytes of each field of a sample; a size is None if the sample says it. Raises ``ValueError`` if they do not fit."""
    num_sizes = sum(size is None for _, size in sizes)
    at = 4 * num_sizes
    if at > len(data):
        raise ValueError("it ends inside the sizes of its fields")
    own_sizes = iter(np.frombuffer(data, "<u4", num_sizes).tolist())
    parts = []
    for name, given in sizes:
        size = next(own_sizes) if given is None else given
        if at + size > len(data):
            raise ValueError(f"its field {name!r} claims {size:,} bytes, and {len(data) - at:,} are left")
        parts.append(data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError(f"{len(data) - at:,} bytes follow its last field")
    return parts
