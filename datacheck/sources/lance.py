"""Lance datasets: the fragments of one version, without the rows that were deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.optional import import_library
from datacheck.storage.registry import storage_of
from datacheck.text import plain

__all__ = ["LanceSource"]

_BATCH_ROWS = 4096


class LanceSource:
    """Reads Lance datasets. A unit is a fragment; rows are counted over the rows that are left, in order."""

    format: ClassVar[str] = "lance"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        with _no_panic(uri):
            return self._inspect(uri, options)

    def _inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        dataset = _open(uri, options)
        fingerprint = fingerprint_of(uri)
        units: list[WorkUnit] = []
        row = 0
        # The version is pinned here, so that every unit reads the same one.
        pinned = replace(options, table_version=int(dataset.version))
        for fragment in dataset.get_fragments():
            count = int(fragment.count_rows())
            units.append(
                WorkUnit(
                    uri,
                    self.format,
                    len(units),
                    fingerprint,
                    row,
                    count,
                    row_groups=(int(fragment.fragment_id),),
                    options=pinned,
                )
            )
            row += count
        units = units or [WorkUnit(uri, self.format, 0, fingerprint, 0, 0, options=pinned)]
        return InputInfo(uri, self.format, fingerprint.size, row, tuple(units))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with _no_panic(unit.uri):
            yield from self._read(unit)

    def _read(self, unit: WorkUnit) -> Iterator[Batch]:
        dataset = _open(unit.uri, unit.options)
        wanted = unit.options.columns
        names = [name for name in dataset.schema.names if wanted is None or name in wanted]
        if not unit.row_groups:
            yield Batch.from_arrow(dataset.schema.empty_table().select(names).combine_chunks().to_batches()[0], 0)
        row = unit.row_start
        for number in unit.row_groups:
            fragment = dataset.get_fragment(number)
            scanner = fragment.scanner(columns=names, batch_size=_BATCH_ROWS)
            for part in scanner.to_batches():
                yield Batch.from_arrow(part, row, number)
                row += part.num_rows


@contextmanager
def _no_panic(uri: str) -> Iterator[None]:
    """Around the library: its panics, on damaged files, are no ``Exception``."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        problem = f"its library failed on it ({plain(str(error).partition(chr(10))[0], 200)})"
        raise SourceError("DC901", uri, problem, REWRITE_FILE) from None


def _open(uri: str, options: ReadOptions) -> Any:
    lance = import_library(uri, "lance", "lance")
    path = storage_of(uri).local_path(uri)
    if path is None or storage_of(uri).stat(uri).kind != "folder":
        raise SourceError(
            "DC901", uri, "it is not the folder of a Lance dataset on this machine", "copy the dataset here"
        )
    try:
        return lance.dataset(path, version=options.table_version)
    except (ValueError, OSError) as error:
        problem = plain(str(error).partition("\n")[0], 200)
        raise SourceError("DC901", uri, f"it cannot be opened ({problem})", "pass a version that it has") from error
