"""What proves that row groups of a Parquet file are the same as in another version of it.

Two things together. All that the footer says of how to read them is the same: the row groups' own metadata with the
places of their pages, the schema, the writer. The SHA-256 of every byte of their pages is the same too. Checksums of
pages, statistics, sizes and times prove nothing. Row groups at another place in the file count as other ones, for
findings name their rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pyarrow as pa

from datacheck.errors import SourceError
from datacheck.sources.base import InputInfo, WorkUnit, plan_in_order
from datacheck.sources.parquet import open_parquet
from datacheck.sources.parquet_footer import RowGroupMetadata, read_row_groups
from datacheck.storage.registry import open_file, storage_of

#: Encoded bytes of row groups that are told apart from others: checking fewer costs less than remembering them.
PIECE_BYTES = 8 << 20
#: A writer that says of pages that they are shorter than they are, so that readers read beyond (PARQUET-816).
_WRONG_LENGTHS = re.compile(r"parquet-mr version 1\.[0-2]\.")
#: What a value of a list may take when it is decoded.
_BYTES_OF_LIST_VALUE = 16
#: Pages may lie between pages of other row groups, but not so that hashing reads far more than these.
_MAX_SPREAD = 2
_BLOCK_BYTES = 1 << 20


def split_by_row_groups(info: InputInfo) -> InputInfo:
    """A local Parquet file with a unit for each row group, or for a few small ones; other files as they are.

    Where units begin depends on the row groups before them alone, so that rows added at the end leave them as they are.
    """
    options = info.units[0].options if info.units else None
    if info.format != "parquet" or info.is_partial or options is None or options.deleted is not None:
        return info
    if options.trust_statistics or storage_of(info.uri).local_path(info.uri) is None:
        return info
    if info.num_bytes < PIECE_BYTES and len(info.units) == 1:
        return info
    parts = [part for unit in info.units for part in _split(unit)]
    planned = plan_in_order(replace(info.units[0], num_rows=0, row_groups=()), parts)
    return replace(info, units=planned.units)


def _split(unit: WorkUnit) -> Iterator[tuple[int, dict[str, tuple[int, ...]]]]:
    metadata = open_parquet(unit.uri, unit.fingerprint, unit.options).metadata
    groups: list[int] = []
    num_rows = num_bytes = 0
    for group in unit.row_groups:
        row_group = metadata.row_group(group)
        groups.append(group)
        num_rows, num_bytes = num_rows + row_group.num_rows, num_bytes + row_group.total_byte_size
        if num_bytes >= PIECE_BYTES:
            yield num_rows, {"row_groups": tuple(groups)}
            groups, num_rows, num_bytes = [], 0, 0
    if groups:
        yield num_rows, {"row_groups": tuple(groups)}


def identify_row_groups(unit: WorkUnit) -> str | None:
    """All that the footer says of how to read a unit, and the rows that it has; None where its pages cannot be told apart."""
    try:
        metadata = _row_groups(unit)
        file = open_parquet(unit.uri, unit.fingerprint, unit.options)
    except (OSError, SourceError, pa.ArrowException):
        # Reading it says why.
        return None
    if not metadata or _WRONG_LENGTHS.match(file.metadata.created_by or "") or not _is_ordinary(unit, metadata):
        return None
    # The metadata of the whole schema may count all rows, as pandas' metadata does; nothing in it says how to read them.
    schema = file.schema_arrow.remove_metadata().serialize().to_pybytes()
    said = (
        unit.row_start,
        unit.num_rows,
        unit.row_groups,
        [group.digest for group in metadata],
        hashlib.sha256(schema).hexdigest(),
        # Without its first line, the address of an object.
        str(file.schema).partition("\n")[2],
        file.metadata.created_by,
        file.metadata.format_version,
    )
    return repr(said)


def num_page_bytes(unit: WorkUnit) -> int:
    """The bytes of the file that :func:`hash_pages` reads."""
    return sum(stop - start for start, stop in map(_extent, _row_groups(unit)))


def hash_pages(unit: WorkUnit) -> str:
    """The SHA-256 of all bytes in which the pages of a unit lie, that :func:`identify_row_groups` told apart."""
    digest = hashlib.sha256()
    with open_file(unit.uri) as file:
        for start, stop in map(_extent, _row_groups(unit)):
            while start < stop:
                block = file.read_at(start, min(_BLOCK_BYTES, stop - start))
                if not block:
                    raise OSError(f"{unit.uri} became shorter")
                digest.update(block)
                start += len(block)
    return digest.hexdigest()


def _row_groups(unit: WorkUnit) -> list[RowGroupMetadata]:
    """The metadata of the row groups of a unit; empty where the footer does not have all of it."""
    groups = read_row_groups(unit.uri, unit.fingerprint, unit.options.max_bytes_at_once)
    return [groups[group] for group in unit.row_groups] if max(unit.row_groups, default=0) < len(groups) else []


def _is_ordinary(unit: WorkUnit, groups: Iterable[RowGroupMetadata]) -> bool:
    """Whether all pages lie in the file, and nothing that they take is judged by the size of the whole file."""
    metadata = open_parquet(unit.uri, unit.fingerprint, unit.options).metadata
    for number, group in zip(unit.row_groups, groups, strict=True):
        chunks = group.chunks
        if not chunks or any(chunk.start is None or chunk.stop <= chunk.start for chunk in chunks):
            return False
        start, stop = _extent(group)
        stored = sum(chunk.stop - (chunk.start or 0) for chunk in chunks)
        if start < 4 or stop > unit.fingerprint.size or stop - start > _MAX_SPREAD * stored:
            return False
        most = max(
            metadata.row_group(number).total_byte_size, sum(one.num_values for one in chunks) * _BYTES_OF_LIST_VALUE
        )
        if most > unit.options.max_bytes_at_once:
            return False
    return True


def _extent(group: RowGroupMetadata) -> tuple[int, int]:
    return min(chunk.start or 0 for chunk in group.chunks), max(chunk.stop for chunk in group.chunks)
