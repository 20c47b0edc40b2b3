"""Lance datasets: the fragments of one version, without the rows that were deleted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of, plan_in_order
from datacheck.sources.error_translation import translate_inspect_errors, translate_read_errors
from datacheck.sources.optional import import_library
from datacheck.storage.registry import storage_of
from datacheck.text import plain

_BATCH_ROWS = 4096
_NOT_FOUND = re.compile(r"Not found: (?P<path>/[^\n,]*\.(lance|arrow|bin|idx))\b")
_CODE_PLACE = re.compile(r",? ?/\S+\.rs:\d+:\d+")


class LanceSource:
    """Reads Lance datasets. A unit is a fragment; rows are counted over the rows that are left, in order."""

    format: ClassVar[str] = "lance"

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        with _no_panic(uri):
            return self._inspect(uri, options)

    def _inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        dataset = _open(uri, options)
        # The version is pinned here, so that every unit reads the same one.
        pinned = replace(options, table_version=int(dataset.version))
        unit = WorkUnit(uri, self.format, 0, fingerprint_of(uri), 0, 0, options=pinned)
        fragments = dataset.get_fragments()
        return plan_in_order(
            unit, ((int(one.count_rows()), {"row_groups": (int(one.fragment_id),)}) for one in fragments)
        )

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
            # An error on damaged metadata that quotes a null byte aborts the process in a scanner, but not here.
            fragment.take([0] if fragment.count_rows() else [], columns=names)
            scanner = fragment.scanner(columns=names, batch_size=_BATCH_ROWS)
            for part in scanner.to_batches():
                yield Batch.from_arrow(part, row, number)
                row += part.num_rows


@contextmanager
def _no_panic(uri: str) -> Iterator[None]:
    """Around the library, whose panics on damaged files are not an ``Exception``, and which names lines of its own code."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException" and not _CODE_PLACE.search(str(error)):
            raise
        missing = _NOT_FOUND.search(str(error))
        if missing is not None and not storage_of(uri).exists(missing["path"]):
            problem = f"its file {plain(posixpath.relpath(missing['path'], uri), 120)!r} is missing"
            raise SourceError("DC911", uri, problem, "restore it, or write the dataset again") from None
        raise SourceError("DC901", uri, f"the Lance library failed on it ({_said(error)})", REWRITE_FILE) from None


def _said(error: BaseException) -> str:
    """What an error of the library says, without the places in its code."""
    return plain(_CODE_PLACE.sub("", str(error).partition("\n")[0]), 200)


def _open(uri: str, options: ReadOptions) -> Any:
    lance = import_library(uri, "lance", "lance")
    path = storage_of(uri).local_path(uri)
    if path is None or storage_of(uri).stat(uri).kind != "folder":
        problem = "it is not the folder of a Lance dataset on this machine"
        raise SourceError("DC901", uri, problem, "name the folder of the dataset, or copy it here")
    try:
        return lance.dataset(path, version=options.table_version)
    except (ValueError, OSError) as error:
        problem, remedy = f"it cannot be opened ({_said(error)})", REWRITE_FILE
        if options.table_version is not None:
            with suppress(ValueError, OSError):
                newest = lance.dataset(path).version
                problem, remedy = f"it has no version {options.table_version}", f"the newest is {newest}"
        raise SourceError("DC901", uri, problem, remedy) from error
