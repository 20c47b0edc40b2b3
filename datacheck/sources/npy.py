"""``.npy``: one array, memory-mapped, split into ranges of rows. Nothing is unpickled."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.arrays import ArrayLayout, check_layout, has_npy_header, iter_rows, parse_npy_header
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of, split_rows
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.probe import head_of
from datacheck.storage.base import Fingerprint
from datacheck.storage.registry import open_file


class NpySource:
    """Reads ``.npy`` files: a unit is one batch, a view of the file's pages."""

    format: ClassVar[str] = "npy"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        layout = _layout(uri, fingerprint).with_rows(options.rows)
        check_layout(uri, layout, fingerprint.size - layout.offset)
        if layout.offset + layout.num_bytes != fingerprint.size:
            _raise_trailing_bytes(uri, layout, fingerprint.size)
        units = tuple(
            WorkUnit(uri, self.format, index, fingerprint, start, count, options=options)
            for index, (start, count) in enumerate(split_rows(layout.num_rows, layout.row_bytes))
        )
        problem = "" if layout.shape else "it is a scalar, which has no rows"
        return InputInfo(
            uri, self.format, fingerprint.size, layout.num_rows, units, aligned=not problem, problem=problem
        )

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        layout = _layout(unit.uri, unit.fingerprint).with_rows(unit.options.rows)
        if unit.options.array_name is not None:
            layout = replace(layout, name=unit.options.array_name)
        count = layout.num_rows if unit.num_rows is None else unit.num_rows
        with open_file(unit.uri) as file:
            for start, number, columns in iter_rows(file, [layout], unit.row_start, count):
                yield Batch(tuple(columns), number, start)


@functools.lru_cache(maxsize=64)
def _layout(uri: str, fingerprint: Fingerprint) -> ArrayLayout:  # a changed file is parsed again
    """Where the array is. The header is parsed once for the inspection and all units of a file."""
    head = head_of(uri, fingerprint)
    if has_npy_header(head):
        return parse_npy_header(io.BytesIO(head).read, uri)[0]
    with open_file(uri) as file:
        return parse_npy_header(file.read, uri)[0]


def _raise_trailing_bytes(uri: str, layout: ArrayLayout, size: int) -> None:
    with open_file(uri) as file:
        file.seek(layout.offset + layout.num_bytes)
        rest = file.read(6)
    extra = size - layout.offset - layout.num_bytes
    if rest == b"\x93NUMPY":
        problem = "it holds several arrays, and .npy readers see only the first"
        raise SourceError("DC901", uri, problem, "save each array to its own file, or all of them to an .npz")
    raise SourceError("DC901", uri, f"{extra:,} bytes follow the array that the header describes", "rewrite the file")
