"""Scans of row groups that are remembered from other versions of their file, so that an appended file costs its new part."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from datacheck.checks.checker import RuleSet
from datacheck.codes import CODES
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.jobs.units.scan import UnitScan, read_keys, scan_unit
from datacheck.sources.base import WorkUnit

#: Stored bytes a second. Row groups that are checked faster are checked again: hashing, at about twice this, gains little.
FAST_TO_CHECK = 1.0e9


class Store(Protocol):
    """Plain JSON by key, as the cache of verdicts has it."""

    def get(self, keys: Iterable[str]) -> dict[str, Any]: ...
    def put(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class KnownScan:
    """What is remembered of row groups: the hash of their pages, and the encoded scan."""

    pages: str
    scan: str

    def read(self) -> UnitScan | None:
        """The scan; None if it was damaged or written by another version."""
        with suppress(ValueError, TypeError, KeyError, zlib.error):
            (scan,) = decode(zlib.decompress(base64.b64decode(self.scan, validate=True)), References())
            if isinstance(scan, UnitScan):
                return scan
        return None


@dataclass(slots=True)
class UnitCache:
    """The scans of row groups in a store. ``rules`` identifies the schema and the versions of all libraries."""

    store: Store
    rules: str
    _keys: dict[WorkUnit, str] = field(default_factory=dict)
    _known: dict[WorkUnit, KnownScan] = field(default_factory=dict)
    _fresh: dict[str, dict[str, KnownScan]] = field(default_factory=dict)

    def look_up(self, units: Iterable[WorkUnit]) -> None:
        """Look for what may be the scans of units. Only the hash of their pages tells whether they are."""
        from datacheck.sources.parquet_identity import identify_row_groups

        keys: dict[WorkUnit, str] = {}
        for unit in units:
            identity = identify_row_groups(unit)
            if identity is not None:
                said = repr((self.rules, unit.options, identity))
                keys[unit] = f"rows:{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()}"
        self._keys |= keys
        entries = self.store.get(keys.values())
        for unit, key in keys.items():
            entry = entries.get(key)
            if isinstance(entry, Mapping) and {type(entry.get(name)) for name in ("pages", "scan")} == {str}:
                self._known[unit] = KnownScan(entry["pages"], entry["scan"])

    def work(self, unit: WorkUnit, rules: RuleSet, keys: WorkUnit | None) -> Callable[[], UnitScan] | None:
        """The scan of a unit that was looked up; None for any other.

        ``keys`` is the unit with the columns that are read even of known rows, because other files matter.
        """
        if unit not in self._keys:
            return None
        return partial(_scan, unit, rules, self._known.get(unit), keys)

    def add(self, unit: WorkUnit, scan: UnitScan) -> None:
        """Take what is to be remembered of a unit, until it is known whether its file is still the same."""
        if not scan.pages or scan.error:
            return
        known = self._known.get(unit)
        if known is not None and known.pages == scan.pages:
            return
        if all(CODES[finding.code].cacheable for finding in scan.findings):
            alone = replace(scan, keys=(), dataset=None, pages="")
            content = base64.b64encode(zlib.compress(encode([alone], References()), 1)).decode("ascii")
            self._fresh.setdefault(unit.uri, {})[self._keys[unit]] = KnownScan(scan.pages, content)

    def remember(self, uri: str) -> None:
        """Store the scans of a file that is as it was before it was read."""
        for key, one in self._fresh.pop(uri, {}).items():
            self.store.put(key, {"pages": one.pages, "scan": one.scan})


def _scan(unit: WorkUnit, rules: RuleSet, known: KnownScan | None, keys: WorkUnit | None) -> UnitScan:
    """Scan a unit, unless it is the known one."""
    from datacheck.sources.parquet_identity import hash_pages, num_page_bytes

    with suppress(OSError):
        if known is not None and hash_pages(unit) == known.pages and (scan := known.read()) is not None:
            if keys is None:
                return replace(scan, pages=known.pages)
            read = read_keys(keys, rules.schema, with_dataset=True)
            if read.error is None:
                return replace(scan, keys=read.keys, dataset=read.dataset, pages=known.pages)
    begin = time.thread_time()
    scan = scan_unit(unit, rules)
    seconds = time.thread_time() - begin
    with suppress(OSError):
        if scan.error is None and num_page_bytes(unit) <= seconds * FAST_TO_CHECK:
            return replace(scan, pages=hash_pages(unit))
    return scan
