"""Images and audio that lie as bytes in a column: each is decoded to its end, and described by columns beside it.

A column ``image`` of bytes gets ``image.width`` and so on, which a schema can bound; what is wrong with a value is a fault of
its row. It makes no difference whether the bytes are a file, a member of an archive or a value of a table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import is_text
from datacheck.batch import Batch, Column, Fault
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES
from datacheck.leaves import BoolArray
from datacheck.sources.examined import Examined
from datacheck.text import plain

#: The number of values read to tell what a column holds.
_NUM_SAMPLES = 5

_KINDS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    (
        "image",
        re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|BM....\0\0\0\0", re.DOTALL),
    ),
    ("audio", re.compile(rb"RIFF....WAVE|fLaC|OggS|ID3|\xff[\xfb\xf3\xf2]", re.DOTALL)),
)
UNKNOWN = "of no known format"
_OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<(\?xml|error)", re.IGNORECASE), "an XML document"),
    (re.compile(rb'\s*[{\[]\s*"'), "JSON"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"%PDF"), "a PDF"),
)


def media_kind(head: bytes) -> str | None:
    """``image``, ``audio`` or None, by the first bytes of a value."""
    return next((kind for kind, pattern in _KINDS if pattern.match(head)), None)


def describe_other(data: bytes) -> str:
    """What bytes are that are neither."""
    if not data:
        return "empty"
    if not any(data[:4096]):
        return "nothing but zero bytes"
    return next((name for pattern, name in _OTHERS if pattern.match(data[:512])), UNKNOWN)


def with_media(batch: Batch, kind: str | None = None) -> Batch:
    """The batch with the columns that describe its images and recordings, and with what is wrong with them.

    ``kind`` says what all columns of bytes hold; None to see it by their values, which are then left alone if the library
    for them is not installed.
    """
    columns: list[Column] = []
    faults = list(batch.faults)
    for column in map(_with_text_paths, batch.columns):
        found = (kind or _kind_of(column)) if _may_hold_bytes(column) else None
        examine = None if found is None else _examiner(found)
        if examine is None or found is None:
            columns.append(column)
            continue
        columns.append(replace(column, is_media=True))
        described, of_column = _describe(column, found, examine)
        columns += [replace(one, is_sample=column.is_sample) for one in described]
        faults += of_column
    if all(column is before for column, before in zip(columns, batch.columns, strict=False)):
        return batch
    return replace(batch, columns=tuple(columns), faults=tuple(faults))


def decoder_of(format_: str) -> Callable[[Any], np.ndarray[Any, Any]] | None:
    """The function that decodes the bytes of a file of images or audio; None for any other format."""
    if format_ == "image":
        from datacheck.sources.images import decode_image

        return decode_image
    if format_ == "audio":
        from datacheck.sources.audio import decode_audio

        return decode_audio
    return None


def media_in(column: Column) -> str | None:
    """``image`` or ``audio`` where a column holds the bytes of such files, alone or beside their paths; None for any other."""
    return _kind_of(column) if _may_hold_bytes(column) else None


def _examiner(kind: str) -> Callable[[Any], Examined] | None:
    try:
        if kind == "image":
            from datacheck.sources.images import examine_image as examine
        else:
            from datacheck.sources.audio import examine_audio as examine
    except ImportError:
        return None
    return examine


def _may_hold_bytes(column: Column) -> bool:
    """Whether a column is neither one of numbers, which most are, nor one that was looked into."""
    return not (isinstance(column.data, np.ndarray) or column.is_media or pa.types.is_primitive(column.data.type))


def _bytes_of(column: Column) -> tuple[pa.Array, pa.Array | None] | None:
    """The bytes in a column and the paths beside them, as Hugging Face stores both; None if it holds no bytes."""
    data, types = column.data, pa.types
    if isinstance(data, np.ndarray):
        return None
    paths = None
    if types.is_struct(data.type):
        names = [one.name for one in data.type]
        if names.count("bytes") != 1 or not set(names) <= {"bytes", "path"}:
            return None
        # Not flatten(), since the bytes of a null are nothing.
        parts = data.flatten()
        paths = parts[names.index("path")] if "path" in names else None
        if paths is not None and types.is_dictionary(paths.type):
            paths = paths.dictionary_decode()
        if paths is not None and not (types.is_null(paths.type) or is_text(paths.type)):
            paths = None
        data = parts[names.index("bytes")]
    if not (types.is_binary(data.type) or types.is_large_binary(data.type)):
        return None
    return data, paths


def _with_text_paths(column: Column) -> Column:
    """The column with paths of text, which they are also where all are missing, and writers give them no type."""
    found = _bytes_of(column) if _may_hold_bytes(column) else None
    if found is None or found[1] is None or not pa.types.is_null(found[1].type):
        return column
    assert not isinstance(column.data, np.ndarray)
    kind = column.data.type
    fields = [one.with_type(pa.string()) if one.name == "path" else one for one in kind]
    return replace(column, data=column.data.cast(pa.struct(fields)))


def _suffix_of(name: str) -> str:
    """The suffix of a file, or the one that the name of a column is, as in a tar shard; empty for any other name."""
    suffix = f".{name.rpartition('.')[2].lower()}"
    return suffix if suffix in _SUFFIXES else ""


def _kind_of_name(name: str) -> str | None:
    suffix = _suffix_of(name)
    return ("audio" if _SUFFIXES[suffix] in _AUDIO else "image") if suffix else None


def _kind_of(column: Column) -> str | None:
    found = _bytes_of(column)
    if found is None:
        return None
    if (named := _kind_of_name(column.name or "")) or not len(found[0]):
        return named
    data, paths = found
    positions = sorted({len(data) * part // _NUM_SAMPLES for part in range(_NUM_SAMPLES)})
    views = [_views(data.slice(position, 1))[0] for position in positions]
    heads = [view[:512].tobytes() for view in views if view is not None]
    known = [kind for head in heads if (kind := media_kind(head[:16])) is not None]
    # What is downloaded in place of images does not hide what the others are.
    others = [head for head in heads if media_kind(head[:16]) is None and describe_other(head) == UNKNOWN]
    if len(known) > len(others):
        return max(known, key=known.count)
    by_name = [] if paths is None else [_kind_of_name(paths[position].as_py() or "") for position in positions]
    return max(by_name, key=by_name.count) if by_name else None


def _views(data: pa.Array) -> list[memoryview | None]:
    """The bytes of each value, where they are (a scalar of Arrow has a copy of them); None for nulls."""
    _, offsets, content = data.buffers()
    dtype = np.int64 if pa.types.is_large_binary(data.type) else np.int32
    if not len(data):
        return []
    ends = np.frombuffer(offsets, dtype)[data.offset : data.offset + len(data) + 1].tolist()
    view = memoryview(b"" if content is None else content)
    valid = data.is_valid().to_pylist()
    return [view[start:stop] if there else None for start, stop, there in zip(ends, ends[1:], valid, strict=False)]


def _describe(column: Column, kind: str, examine: Callable[[Any], Examined]) -> tuple[list[Column], list[Fault]]:
    found = _bytes_of(column)
    assert found is not None
    data, paths = found
    examined = [None if view is None else _examine(view, examine) for view in _views(data)]
    named = [_suffix_of(column.name or "")] * len(examined) if paths is None else paths.to_pylist()
    if any(named):
        for one, path in zip(examined, named, strict=True):
            if one is not None and path:
                one.faults += wrong_suffix(path, one.facts)
    return list(_columns(column.name or kind, examined)), list(_faults(column.name or kind, examined))


def _examine(view: memoryview, examine: Callable[[Any], Examined]) -> Examined:
    head = view[:4096].tobytes()
    if media_kind(head[:16]) is None and (other := describe_other(head)) != UNKNOWN:
        return Examined(faults=[("DC601", f"it is {other}")])
    try:
        examined = examine(view)
    except Exception as error:  # libraries raise anything on damaged bytes
        return Examined(faults=[("DC601", problem_of(error))])
    examined.facts["hash"] = hashlib.sha256(view).hexdigest()[:32]
    return examined


def problem_of(error: Exception) -> str:
    """What a library says of bytes that cannot be decoded, in a line."""
    text = error.problem if isinstance(error, SourceError) else str(error)
    return plain(text.partition("\n")[0], 120) or type(error).__name__


_SUFFIXES = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".png": "png", ".gif": "gif", ".bmp": "bmp", ".tif": "tiff",
    ".tiff": "tiff", ".webp": "webp", ".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".mp3": "mp3",
}  # fmt: skip


_AUDIO = ("wav", "flac", "ogg", "mp3")


def wrong_suffix(path: str, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A fault if the suffix of a name says another format."""
    suffix = re.search(r"\.[a-z0-9]+$", path.lower())
    said, is_format = _SUFFIXES.get(suffix[0] if suffix else ""), facts.get("format")
    if said is not None and is_format is not None and said != is_format:
        yield "DC602", f"its name says {said}, its bytes are {is_format}"


def _columns(name: str, examined: Sequence[Examined | None]) -> Iterator[Column]:
    facts = dict.fromkeys(key for one in examined if one is not None for key in one.facts)
    for fact in facts:
        values = [None if one is None else one.facts.get(fact) for one in examined]
        yield _column(f"{name}.{fact}", values)
    for label in dict.fromkeys(label for one in examined if one is not None for label in one.lists):
        yield _lists_column(f"{name}.{label}", [None if one is None else one.lists.get(label) for one in examined])


def _lists_column(path: str, values: list[np.ndarray[Any, Any] | None]) -> Column:
    absent = np.array([value is None for value in values], np.bool_)
    lengths = [0 if value is None else value.size for value in values]
    parts = [value.reshape(-1) for value in values if value is not None]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    item = pa.from_numpy_dtype(joined.dtype)
    inner = pa.Array.from_buffers(item, len(joined), [None, pa.py_buffer(joined)])
    offsets = pa.py_buffer(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    data = pa.Array.from_buffers(pa.large_list(item), len(values), [_bitmap(~absent), offsets], children=[inner])
    return Column(path, data, absent={path: absent} if absent.any() else None, derived=True)


def _column(path: str, values: list[Any]) -> Column:
    absent = np.array([value is None for value in values], np.bool_)
    sample = next((value for value in values if value is not None), "")
    if isinstance(sample, str):
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        data = builder.finish()
    else:
        dtype = np.float64 if isinstance(sample, float) else np.int64
        numbers = np.array([0 if value is None else value for value in values], dtype)
        kind = pa.float64() if dtype is np.float64 else pa.int64()
        data = pa.Array.from_buffers(kind, len(values), [_bitmap(~absent), pa.py_buffer(numbers)])
    return Column(path, data, absent={path: absent} if absent.any() else None, derived=True)


def _bitmap(valid: BoolArray) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _faults(name: str, examined: Sequence[Examined | None]) -> Iterator[Fault]:
    found: dict[str, list[tuple[int, str]]] = {}
    for row, one in enumerate(examined):
        for code, detail in () if one is None else one.faults:
            found.setdefault(code, []).append((row, detail))
    num_checked = sum(one is not None for one in examined)
    for code, rows in found.items():
        examples = tuple((row, detail) for row, detail in rows[:MAX_EXAMPLES])
        positions = np.array([row for row, _ in rows], np.int64)
        yield Fault(code, name, num_checked, positions, examples, rows[0][1])
