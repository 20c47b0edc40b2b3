"""A scan of a sample: which units of work are looked at, and what is said of the rest."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from datacheck.checks.checker import whole_file_of
from datacheck.errors import UsageError
from datacheck.findings import Finding, Severity
from datacheck.reports.text import format_size
from datacheck.schema.dataset_constraints import has_rules_across_files
from datacheck.schema.model import Schema
from datacheck.sources.base import TARGET_UNIT_BYTES, InputInfo, WorkUnit
from datacheck.text import plain, quantity

_SHARE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)")
#: The largest file that is one unit, so that whether it is in a sample is known before it is opened.
SMALL_FILE_BYTES = TARGET_UNIT_BYTES


def parse_share(value: str | float) -> float:
    """A share of the data, such as ``"1%"`` or ``0.01``; raises ``UsageError``."""
    if isinstance(value, str):
        match = _SHARE.fullmatch(value.strip())
        share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    else:
        share = float(value)
    if not 0 < share <= 1:
        raise UsageError(
            f"sample: expected a share such as 1% or 0.01, above 0 and at most 100%, got {plain(repr(value))}"
        )
    return share


def unit_bytes(unit: WorkUnit, info: InputInfo) -> int:
    """The share of a unit in the bytes of its file."""
    share, rest = divmod(info.num_bytes, len(info.units))
    return share + (rest if unit is info.units[-1] else 0)


@dataclass(slots=True)
class Sample:
    """Chooses units, and counts what was chosen. The same files and the same share always give the same units.

    Attributes:
        share: of the units, rounded up to a whole number of them.
        num_units, num_chosen: the units of all files, and those that were checked.
        num_bytes, num_bytes_chosen: the same in bytes of the files.
    """

    share: float
    num_units: int = 0
    num_chosen: int = 0
    num_bytes: int = 0
    num_bytes_chosen: int = 0
    _unjudged: list[str] = field(default_factory=list)

    def choose(self, units: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """The pairs ``(uri, number)`` with the smallest hashes: at least one, spread over all files."""
        ranked = sorted(units, key=lambda unit: rank_of(*unit))
        chosen = frozenset(ranked[: math.ceil(round(self.share * len(units), 9))])
        self.num_units += len(units)
        self.num_chosen += len(chosen)
        return chosen

    def restrict(self, info: InputInfo, chosen: frozenset[tuple[str, int]]) -> InputInfo:
        """A file with only the units that were chosen."""
        units = tuple(unit for unit in info.units if (unit.uri, unit.index) in chosen)
        if len(units) == len(info.units):
            return info
        return replace(info, units=units, num_bytes=sum(unit_bytes(unit, info) for unit in units), is_partial=True)

    def leave_out_rules(self, schema: Schema) -> None:
        """Note which rules of a schema a sample cannot judge."""
        if has_rules_across_files(schema):
            self._unjudged.append("unique keys and rules about the whole dataset")
        if whole_file_of(schema, None) is not None:
            self._unjudged.append("checks that need all rows of a file, where some of them were left out")

    def findings(self, uri: str) -> list[Finding]:
        """What was looked at, as a note, and what a sample cannot tell, as a warning."""
        left = self.num_units - self.num_chosen
        found = [Finding("DC916", uri, None, max(left, 0), self.num_units, detail=self.summary())] if left else []
        if self._unjudged and left:
            detail = f"{'; '.join(dict.fromkeys(self._unjudged))}: a sample cannot tell; scan without --sample"
            found.append(Finding("DC005", uri, None, 1, 1, detail=detail, severity=Severity.WARNING))
        return found

    def summary(self) -> str:
        """What was looked at, in words."""
        sizes = f"{format_size(self.num_bytes_chosen)} of {format_size(self.num_bytes)}"
        return f"a sample: {self.num_chosen:,} of {quantity(self.num_units, 'unit')} checked, {sizes}"


def rank_of(uri: str, number: int = 0) -> bytes:
    """The place of a unit in the order in which samples choose units: a hash of its file and its number."""
    return hashlib.blake2b(f"{uri}\0{number}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
