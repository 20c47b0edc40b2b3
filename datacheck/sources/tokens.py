"""Token bins: one long array of token ids, raw (nanoGPT), behind a header (llm.c), or with an index of sequences (Megatron)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.sources.arrays import ArrayLayout, iter_rows
from datacheck.sources.base import (
    REWRITE_FILE,
    TARGET_BATCH_BYTES,
    TARGET_UNIT_BYTES,
    InputInfo,
    ReadOptions,
    WorkUnit,
    fingerprint_of,
    split_rows,
)
from datacheck.sources.error_translation import check_bytes, translate_inspect_errors, translate_read_errors
from datacheck.storage.registry import open_file, storage_of

#: The field of the ids.
TOKENS = "tokens"
INDEX_MAGIC = b"MMIDIDX\0\0"
#: llm.c: the magic of the header's first word, and the dtype of what follows its 256 words.
_LLM_C = {20240520: "uint16", 20240801: "uint32"}
_LLM_C_BYTES = 1024
#: First bytes of files that are not arrays of ids, whatever their names: gzip, zstd, zip, pickles.
_OTHERS = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\x80\x02", b"\x80\x04")
_NAMES = ("train", "val", "valid", "validation", "test")
#: The number of ids read to tell whether the dtype is right.
_PROBE = 1 << 16
_DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}


def index_of(uri: str) -> str:
    """The index that lies beside a Megatron ``.bin``."""
    return f"{posixpath.splitext(uri)[0]}.idx"


def is_megatron(uri: str, _head: bytes = b"") -> bool:
    """Whether a ``.bin`` has a Megatron index beside it."""
    index = index_of(uri)
    if not uri.lower().endswith(".bin") or not storage_of(uri).exists(index):
        return False
    try:
        with open_file(index) as file:
            return file.read_at(0, len(INDEX_MAGIC)) == INDEX_MAGIC
    except OSError:
        return False


def is_token_bin(uri: str, head: bytes = b"") -> bool:
    """Whether a ``.bin`` holds token ids. In a folder (no ``head``) only a header, an index or the usual name says so."""
    if not uri.lower().endswith(".bin"):
        return False
    if not head:
        stem = posixpath.basename(uri).lower().removesuffix(".bin")
        return stem.partition("_")[0] in _NAMES or is_megatron(uri) or _header_dtype(_first(uri)) is not None
    is_text = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
    return not is_text and not head.startswith(_OTHERS) and not is_megatron(uri)


def _first(uri: str) -> bytes:
    try:
        with open_file(uri) as file:
            return file.read_at(0, 12)
    except OSError:
        return b""


def _header_dtype(head: bytes) -> str | None:
    return _LLM_C.get(int.from_bytes(head[:4], "little")) if len(head) >= 12 else None


class TokensSource:
    """Reads raw bins, whose dtype the schema gives to the field ``tokens`` (uint16 if it gives none), and those of llm.c."""

    format: ClassVar[str] = "tokens"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        layout, _ = _layout(uri, fingerprint.size, options)
        units = tuple(
            WorkUnit(uri, self.format, index, fingerprint, start, count, options=options)
            for index, (start, count) in enumerate(split_rows(layout.num_rows, layout.row_bytes))
        )
        return InputInfo(uri, self.format, fingerprint.size, layout.num_rows, units)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        layout, problem = _layout(unit.uri, unit.fingerprint.size, unit.options)
        findings: list[Finding] = []
        if unit.index == 0:
            if problem:
                findings.append(_error(unit, problem))
            with open_file(unit.uri) as file:
                probe = np.frombuffer(
                    file.read_at(layout.offset, _PROBE * layout.dtype.itemsize)[: layout.num_bytes], layout.dtype
                )
            if detail := _wrong_width(probe):
                findings.append(Finding("DC015", unit.uri, TOKENS, 1, 1, detail=detail))
        with open_file(unit.uri) as file:
            for start, number, columns in iter_rows(
                file, [layout], unit.row_start, unit.num_rows or 0, TARGET_UNIT_BYTES
            ):
                yield Batch(tuple(columns), number, start, findings=tuple(findings))
                findings = []


def _error(unit: WorkUnit, problem: str) -> Finding:
    """What is wrong with a file that is read all the same; where nothing may be lost, it is not."""
    if not unit.options.keep_going:
        raise SourceError("DC901", unit.uri, problem, REWRITE_FILE)
    return Finding("DC901", unit.uri, None, 1, 1, detail=f"{problem}; {REWRITE_FILE}")


def _layout(uri: str, size: int, options: ReadOptions) -> tuple[ArrayLayout, str]:
    """Where the ids are, and what is wrong with how many there are."""
    head = _first(uri)
    dtype, offset, problem = _header_dtype(head), 0, ""
    if dtype is not None:
        offset = min(_LLM_C_BYTES, size)
    else:
        said = dict(options.dtypes).get(TOKENS, "uint16")
        dtype = said if np.dtype(said).kind in "iu" else "uint16"
    width = np.dtype(dtype).itemsize
    count, rest = divmod(size - offset, width)
    if rest:
        problem = (
            f"{size - offset:,} bytes are not a multiple of {width}: the file was cut off, or its ids are not {dtype}"
        )
    elif offset and (said_count := int.from_bytes(head[8:12], "little")) != count:
        problem = f"its header says {said_count:,} tokens, but there are {count:,}"
    return ArrayLayout(TOKENS, np.dtype(dtype).newbyteorder("<"), (count,), offset), problem


def _wrong_width(ids: np.ndarray[Any, Any]) -> str:
    """Whether ids look like ids of another width: every second one is 0, or nearly all are beyond any vocabulary."""
    if len(ids) < 64 or ids.dtype.kind not in "iu":
        return ""
    odd, even = ids[1::2], ids[0 : len(ids) - len(ids) % 2 : 2]
    name, width = ids.dtype.newbyteorder("=").name, ids.dtype.itemsize
    if width < 8 and not odd.any() and np.count_nonzero(even) * 2 > len(even):
        return f"every second id is 0, as if they had {2 * width} bytes each, and they are read as {name}"
    if width >= 4 and np.count_nonzero(ids.astype(np.int64) >> 24) * 2 > len(ids):
        return f"most ids are beyond 16 million, as if they had {width // 2} bytes each, and they are read as {name}"
    return ""


@dataclass(frozen=True, slots=True)
class _Index:
    """What a Megatron index says: the length of each sequence, and the first sequence of each document."""

    dtype: np.dtype[Any]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    documents: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def starts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The first id of each sequence, and the number of ids."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)


class MegatronSource:
    """Reads a Megatron ``.bin`` with its ``.idx``: one row a sequence, with its ids and the number of its document."""

    format: ClassVar[str] = "megatron"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        index = _read_index(uri, fingerprint.size, options)
        starts, width = index.starts, index.dtype.itemsize
        units: list[WorkUnit] = []
        row, num_rows = 0, len(index.lengths)
        while row < num_rows or not units:
            stop = int(np.searchsorted(starts, starts[row] + TARGET_UNIT_BYTES // width, side="right")) - 1
            stop = min(max(stop, row + 1), num_rows)
            units.append(WorkUnit(uri, self.format, len(units), fingerprint, row, stop - row, options=options))
            row = stop
        return InputInfo(uri, self.format, fingerprint.size, num_rows, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        index = _read_index(unit.uri, unit.fingerprint.size, unit.options)
        starts, width = index.starts, index.dtype.itemsize
        row, last = unit.row_start, unit.row_start + (unit.num_rows or 0)
        is_first = unit.index == 0
        with open_file(unit.uri) as file:
            while row < last or is_first:
                stop = int(np.searchsorted(starts, starts[row] + TARGET_BATCH_BYTES // width, side="right")) - 1
                stop = min(max(stop, row + 1), last)
                begin, size = int(starts[row]) * width, int(starts[stop] - starts[row]) * width
                content = (file.map(begin, size) if size else None) or file.read_at(begin, size)
                ids = np.frombuffer(content, index.dtype)
                offsets = pa.py_buffer(starts[row : stop + 1] - starts[row])
                kind = pa.from_numpy_dtype(index.dtype)
                inner = pa.Array.from_buffers(kind, len(ids), [None, pa.py_buffer(content)])
                data = pa.Array.from_buffers(pa.large_list(kind), stop - row, [None, offsets], children=[inner])
                numbers = np.searchsorted(index.documents, np.arange(row, stop), side="right") - 1
                document = pa.Array.from_buffers(
                    pa.int64(), stop - row, [None, pa.py_buffer(np.ascontiguousarray(numbers, np.int64))]
                )
                found = _wrong_width(ids[:_PROBE]) if is_first else ""
                findings = (Finding("DC015", unit.uri, TOKENS, 1, 1, detail=found),) if found else ()
                wanted = unit.options.columns
                columns = [Column(TOKENS, data), Column("document", document)]
                columns = [column for column in columns if wanted is None or column.name in wanted]
                yield Batch(tuple(columns), stop - row, row, findings=findings)
                row, is_first = stop, False


def _read_index(uri: str, num_bytes: int, options: ReadOptions) -> _Index:
    """The index beside a ``.bin``; raises ``SourceError`` (DC901) where the two do not belong together."""
    name = index_of(uri)
    size = fingerprint_of(name).size
    check_bytes(name, size, options.max_bytes_at_once)
    with open_file(name) as file:
        content = file.read_at(0, size)
    head = len(INDEX_MAGIC) + 8 + 1 + 16
    dtype = _DTYPES.get(content[len(INDEX_MAGIC) + 8]) if len(content) >= head else None
    if dtype is None or not content.startswith(INDEX_MAGIC):
        raise _broken(uri, "its index is cut off, or of an unknown version or dtype")
    num_sequences, num_documents = (int.from_bytes(content[head - at : head - at + 8], "little") for at in (16, 8))
    if len(content) != head + 12 * num_sequences + 8 * num_documents:
        raise _broken(uri, f"its index has {len(content):,} bytes, which are not {num_sequences:,} sequences")
    lengths = np.frombuffer(content, "<i4", num_sequences, head).astype(np.int64)
    pointers = np.frombuffer(content, "<i8", num_sequences, head + 4 * num_sequences)
    documents = np.frombuffer(content, "<i8", num_documents, head + 12 * num_sequences)
    width = np.dtype(dtype).itemsize
    if (lengths < 0).any() or not np.array_equal(pointers, np.concatenate([[0], np.cumsum(lengths)])[:-1] * width):
        raise _broken(uri, "the places in its index do not follow from the lengths of the sequences")
    if int(lengths.sum()) * width != num_bytes:
        raise _broken(uri, f"its index says {int(lengths.sum()) * width:,} bytes, the .bin has {num_bytes:,}")
    if not len(documents) or documents[0] != 0 or documents[-1] != num_sequences or (np.diff(documents) < 0).any():
        raise _broken(uri, "the documents in its index are not in order, or do not end with the last sequence")
    return _Index(np.dtype(dtype), lengths, documents)


def _broken(uri: str, problem: str) -> SourceError:
    return SourceError("DC901", uri, problem, "write the .bin and the .idx again, together")
