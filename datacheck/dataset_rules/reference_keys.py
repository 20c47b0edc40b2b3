"""The keys that a foreign key refers to: the keys of another file, or the files of a folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Column
from datacheck.dataset_rules.groups import KeyedTables, aligned_parts, group_equal, hash_key, hashes_of, key_columns_of
from datacheck.errors import SourceError, UsageError
from datacheck.schema.dataset_models import Reference
from datacheck.schema.keys import outer_names
from datacheck.sources import get_source, source_for
from datacheck.sources.base import ReadOptions
from datacheck.sources.discover import expand_inputs
from datacheck.storage import storage_of
from datacheck.storage.documents import join_path
from datacheck.text import plain

_SCHEMA = pa.schema([("h0", pa.uint64()), ("h1", pa.uint64())])
#: Names of files whose hashes are added together.
_NAMES = 1 << 16


class ReferenceKeys:
    """A set of keys, in memory or on disk. A context manager."""

    def __init__(self) -> None:
        self._keys = KeyedTables(_distinct)

    def __enter__(self) -> ReferenceKeys:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.close()

    @classmethod
    def read(cls, rule: Reference, folder: str, dtypes: tuple[tuple[str, str], ...]) -> ReferenceKeys:
        """Read the keys that a rule refers to; raises ``DatacheckError`` or ``OSError`` where it cannot."""
        found = cls()
        try:
            if rule.folder is not None:
                path = join_path(folder, rule.folder)
                try:
                    found._read_folder(path)
                except (FileNotFoundError, NotADirectoryError):
                    where = "relative paths start from the folder of the schema"
                    raise UsageError(f"{plain(path)}: no such folder; {where}") from None
            else:
                found._read_files(join_path(folder, rule.file or ""), rule.keys or rule.fields, dtypes)
        except BaseException:
            found._keys.close()
            raise
        return found

    def pairs(self, keys: KeyedTables) -> Iterator[tuple[pa.Table, Any]]:
        """Tables of keys, each with the hashes of this set that may be in it."""
        for table, known in aligned_parts(keys, self._keys):
            if table is not None:
                yield table, np.empty((0, 2), np.uint64) if known is None else hashes_of(known)

    def _read_files(self, path: str, names: tuple[str, ...], dtypes: tuple[tuple[str, str], ...]) -> None:
        columns = tuple(dict.fromkeys(outer for name in names for outer in outer_names(name)))
        for file in expand_inputs(path, ReadOptions(columns=columns, dtypes=dtypes)):
            for unit in source_for(file.uri).inspect(file.uri, file.options).units:
                for batch in get_source(unit.format).read(unit):
                    key = key_columns_of(batch, names)
                    if key is None:
                        absent = next(name for name in names if key_columns_of(batch, [name]) is None)
                        raise SourceError("DC001", file.uri, f"has no field '{plain(absent)}'")
                    self._add(key.hashes)

    def _read_folder(self, folder: str) -> None:
        storage, names = storage_of(folder), list[str]()
        pending = [""]
        while pending:
            inside = pending.pop()
            for entry in storage.list(posixpath.join(folder, inside) if inside else folder):
                name = posixpath.join(inside, entry.name)
                if entry.is_folder:
                    # A link to a folder may lead into a circle.
                    pending += [] if entry.is_link else [name]
                else:
                    names.append(name)
                if len(names) == _NAMES:
                    self._add_names(names)
                    names = []
        self._add_names(names)

    def _add_names(self, names: Sequence[str]) -> None:
        if names:
            self._add(hash_key([Column("name", pa.array(names, pa.string()))]))

    def _add(self, hashes: Any) -> None:
        self._keys.add(pa.table({"h0": hashes[:, 0], "h1": hashes[:, 1]}, schema=_SCHEMA))


def _distinct(table: pa.Table) -> pa.Table:
    return table.take(pa.array(group_equal(hashes_of(table)).firsts)).combine_chunks()
