"""The source protocol: read one format, split an input into units, yield batches in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from datacheck.errors import SourceError, UsageError
from datacheck.storage.base import Fingerprint
from datacheck.storage.os_calls import KEEPS_CHANGE_TIME
from datacheck.storage.registry import storage_of

if TYPE_CHECKING:
    # Listing files needs neither NumPy nor Arrow.
    from datacheck.batch import Batch
    from datacheck.sources.deleted_rows import DeletedRows


#: The delimiter of text whose columns are separated by any number of blanks.
WHITESPACE = "whitespace"
#: Words that mean null in text, the ones that pandas takes for missing; it also takes ``nan``, which is a number here.
NULL_WORDS = ("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "null", "NULL", "None")

#: Decoded bytes per unit. Units depend on the file alone, never on the number of workers.
TARGET_UNIT_BYTES = 64 << 20
#: The fix for a broken file.
REWRITE_FILE = "rewrite the file, or remove it from the inputs"
#: Decoded bytes per batch.
TARGET_BATCH_BYTES = 16 << 20


#: What the rows of an array file are: the file itself, which is one sample, or the entries along each array's first axis.
RowsAre = Literal["file", "first-axis"]
#: Files up to this size are known by their content where several machines read them.
_SMALL_BYTES = 4 << 20
#: The default limits of ``ReadOptions.max_expanded_bytes``. A process that holds the first stays below 1 GiB.
MAX_BYTES_AT_ONCE, MAX_BYTES_IN_STEPS = 768 << 20, 64 << 30


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How inputs are read, for all formats; a source uses what applies to it.

    ``columns`` limits reading to some columns. ``by_columns`` allows batches of a few columns each, for work that never
    looks across columns. ``keep_going`` yields what can be read of a damaged Parquet file, with the errors in
    ``Batch.unreadable``, instead of raising the first. ``dtypes`` are for formats without dtypes of their own (CSV).

    The limits bound how far a file may expand. ``max_expanded_bytes`` is, unless set, 768 MiB for what must be in memory at
    once (a compressed record batch, a decoded value), 64 GiB for an archive that is decompressed step by step, and 192 MiB for
    the rows that ``open_dataset`` keeps of files that are far smaller.
    ``verify_checksums`` compares the checksums of Parquet pages and zip members with their bytes.
    ``trust_statistics`` leaves Parquet column chunks unread whose statistics prove that no value breaks a rule.
    ``max_whole_file_bytes`` bounds the decoded columns that a check of all rows at once may hold in memory.
    ``table_version`` pins the version of a Delta table or a Lance dataset, or the snapshot of an Iceberg table; None reads the
    newest. ``rows`` is for files of arrays: with ``"file"`` each file is one sample, and its arrays are the fields of one
    row. With ``"first-axis"``, which is the default, the entries along the first axis of an array are its rows.

    ``deleted`` are the rows of a data file that its table has deleted.
    ``said_sizes`` are the label files that say the size of an image, each with its width and height.
    ``nan_fields`` are those whose schema allows NaN, which a chunk that was never written may then stand for.
    ``look_into`` decodes images and audio that lie as bytes in a column, and describes them in columns beside it.

    The others are for text tables (CSV, TSV, TXT):

    - ``csv_delimiter``: a character, or ``whitespace`` for any number of blanks. None: by the file's name, which is a comma
      for ``.csv``, a tab for ``.tsv``, and for ``.txt`` whatever its first lines have.
    - ``csv_decimal``, ``csv_thousands``: the decimal mark of numbers, and the separator of their thousands.
    - ``csv_quote``: the character around cells; empty for none.
    - ``csv_encoding``: an encoding that Python knows.
    - ``csv_null_values``: words that mean null. NaN is not among them: ``nan`` is a number.
    - ``csv_header``: whether the first line has names. Without, columns are called ``column_0``, ``column_1`` and so on.
      None: yes, but for a ``.txt`` file only if its first line is not all numbers.
    - ``csv_comment``: lines that begin with it are skipped. None: ``#`` in ``.txt`` files, nothing in others.
    """

    columns: tuple[str, ...] | None = None
    by_columns: bool = False
    dtypes: tuple[tuple[str, str], ...] = ()
    keep_going: bool = False
    verify_checksums: bool = True
    trust_statistics: bool = False
    max_expanded_bytes: int | None = None
    max_expansion_ratio: int = 1000
    max_members: int = 100_000
    max_whole_file_bytes: int = 1 << 30
    partitions: tuple[tuple[str, str], ...] = ()
    rows: RowsAre | None = None
    array_name: str | None = None
    look_into: bool = False
    table_version: int | None = None
    deleted: DeletedRows | None = None
    said_sizes: tuple[tuple[str, float, float], ...] = ()
    nan_fields: tuple[str, ...] = ()
    csv_delimiter: str | None = None
    csv_decimal: str = "."
    csv_thousands: str = ""
    csv_quote: str = '"'
    csv_encoding: str = "utf-8"
    csv_null_values: tuple[str, ...] = NULL_WORDS
    csv_header: bool | None = None
    csv_comment: str | None = None

    def __post_init__(self) -> None:
        problem = self._csv_problem()
        if problem:
            raise UsageError(problem)

    @property
    def max_bytes_at_once(self) -> int:
        """The most bytes that may be in memory at once because a file expands."""
        return MAX_BYTES_AT_ONCE if self.max_expanded_bytes is None else self.max_expanded_bytes

    @property
    def max_bytes_kept(self) -> int:
        """The most bytes that a dataset may keep of files that are far smaller: beside it, one more batch is read."""
        return MAX_BYTES_AT_ONCE // 4 if self.max_expanded_bytes is None else self.max_expanded_bytes

    @property
    def max_bytes_in_steps(self) -> int:
        """The most bytes that an archive may expand to."""
        return MAX_BYTES_IN_STEPS if self.max_expanded_bytes is None else self.max_expanded_bytes

    def _csv_problem(self) -> str:
        """What is wrong with the options for text tables; empty if nothing is."""
        delimiter, decimal, thousands = self.csv_delimiter, self.csv_decimal, self.csv_thousands
        if delimiter not in (None, WHITESPACE) and (not _is_one_character(delimiter) or delimiter in '"\r\n'):
            expected = f"a single ASCII character such as ';' or '\\t', or '{WHITESPACE}'"
            return f"csv_delimiter: expected {expected}, got {delimiter!r}"
        if self.csv_quote and (not _is_one_character(self.csv_quote) or self.csv_quote == (delimiter or ",")):
            return f"csv_quote: expected a single character other than the delimiter, or '' for none, got {self.csv_quote!r}"
        if decimal not in (".", ","):
            return f"csv_decimal: expected '.' or ',', got {decimal!r}"
        if thousands and (len(thousands) != 1 or thousands == decimal or thousands.isalnum() or thousands in "+-"):
            return f"csv_thousands: expected a single character other than the decimal mark, or '', got {thousands!r}"
        try:
            codecs.lookup(self.csv_encoding)
        except LookupError:
            return f"csv_encoding: unknown encoding {self.csv_encoding!r}; for example utf-8, latin-1, cp1252 or utf-16"
        if self.csv_comment and (not self.csv_comment.isascii() or not self.csv_comment.isprintable()):
            return f"csv_comment: expected ASCII characters such as '#', got {self.csv_comment!r}"
        return ""


def _is_one_character(text: object) -> bool:
    return isinstance(text, str) and len(text) == 1 and text.isascii()


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """The part of an input that one worker handles: rows ``row_start`` to ``row_start + num_rows`` of a file.

    ``num_rows`` is None if unknown before reading. ``row_groups`` are a Parquet file's; for an Arrow file, the record
    batch at which reading begins, whose first row is in ``row_group_starts``. ``members`` names arrays of an archive
    that do not form a table: each is read on its own, in turn. Empty means all arrays, as columns of one table.
    ``byte_start`` is where the unit begins in a file of records, blocks or lines. ``byte_stop`` is where it ends, if it
    does before the end of the file, and ``first_line`` is the number of its first line. ``data`` is what is in memory
    already, of the format ``memory``.
    """

    uri: str
    format: str
    index: int
    fingerprint: Fingerprint
    row_start: int = 0
    num_rows: int | None = None
    row_groups: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    row_group_starts: tuple[int, ...] = ()
    byte_start: int = 0
    byte_stop: int | None = None
    arrays: tuple[tuple[str, str, Fingerprint], ...] = ()
    first_line: int = 1
    options: ReadOptions = field(default_factory=ReadOptions)
    data: Any = field(default=None, compare=False, repr=False)

    @property
    def uris(self) -> tuple[str, ...]:
        """The files that are read."""
        return tuple(uri for _, uri, _ in self.arrays) or (self.uri,)

    def range_of(self, num_rows: int) -> tuple[int, int]:
        """The first row and the number of rows of one of the ``members``, which has ``num_rows``."""
        if len(self.members) > 1 or self.num_rows is None:
            return 0, num_rows
        return self.row_start, self.num_rows


@dataclass(frozen=True, slots=True)
class InputInfo:
    """What a source knows about an input before it reads its rows.

    ``num_rows`` is None if unknown before reading. ``aligned`` is False for an archive whose arrays do not form a table:
    they can be scanned one by one, but not cleaned, and ``problem`` says which lengths they have. ``is_partial`` says that
    some units were left out, for a sample.
    """

    uri: str
    format: str
    num_bytes: int
    num_rows: int | None
    units: tuple[WorkUnit, ...]
    aligned: bool = True
    problem: str = ""
    is_partial: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def for_other_machines(self) -> InputInfo:
        """For machines that may see the files with other inodes; they know small ones by their content."""
        return self._with_states(_for_others)

    def with_contents(self, contents: Mapping[str, str]) -> InputInfo:
        """With hashes of the content, by URI."""
        return self._with_states(
            lambda uri, state: replace(state, content=contents[uri]) if state.travels and uri in contents else state
        )

    def _with_states(self, change: Callable[[str, Fingerprint], Fingerprint]) -> InputInfo:
        units = [
            replace(
                unit,
                fingerprint=change(unit.uri, unit.fingerprint),
                arrays=tuple((name, uri, change(uri, state)) for name, uri, state in unit.arrays),
            )
            for unit in self.units
        ]
        return replace(self, units=tuple(units))


class Source(Protocol):
    """Reads one format. Stateless: the unit, which travels between processes, has everything that it needs."""

    format: ClassVar[str]

    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        """Read the file's header and split the file into units; raises ``SourceError``."""
        ...

    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        """The unit's rows in order, in batches of about ``TARGET_BATCH_BYTES``; raises ``SourceError``."""
        ...


def fingerprint_of(uri: str) -> Fingerprint:
    """The current fingerprint of a file; raises ``SourceError`` (DC902) where it cannot be read."""
    try:
        return storage_of(uri).stat(uri, recent=True).fingerprint
    except OSError as error:
        raise SourceError("DC902", uri, error.strerror or str(error), "check the path and its permissions") from None


def check_unchanged(uri: str, fingerprint: Fingerprint) -> None:
    """Raise ``SourceError`` (DC908) where a file no longer has this fingerprint."""
    try:
        now = fingerprint_of(uri)
    except SourceError as error:
        raise SourceError("DC908", uri, f"it disappeared while it was read ({error.problem})", "run again") from None
    if now != fingerprint and not _is_seen_elsewhere(uri, now, fingerprint):
        problem = f"{fingerprint.size:,} bytes at the start, {now.size:,} bytes now, or a newer modification time"
        remedy = "run again when no other process writes to it"
        if fingerprint.travels and _differ_in_inode(now, fingerprint):
            problem = "this file of the same name, size and modification time is not the one that was inspected"
            if not fingerprint.content:
                problem += ": a copy, or what has replaced it, whose content was not compared"
            remedy = "let all machines read one copy, on a file system that they share or in an object store"
        raise SourceError("DC908", uri, problem, remedy)


def plan_in_order(unit: WorkUnit, parts: Iterable[tuple[int, Mapping[str, Any]]]) -> InputInfo:
    """An input of units that follow each other, for each the number of its rows and what else differs from ``unit``.

    Without parts, ``unit`` is the only one.
    """
    units: list[WorkUnit] = []
    row = unit.row_start
    for count, others in parts:
        units.append(replace(unit, index=len(units), row_start=row, num_rows=count, **others))
        row += count
    return InputInfo(unit.uri, unit.format, unit.fingerprint.size, row, tuple(units) or (unit,))


def _is_seen_elsewhere(uri: str, now: Fingerprint, before: Fingerprint) -> bool:
    """Whether a file was inspected through another mount, where it has another inode, or is a copy of that file."""
    if not before.travels or not _differ_in_inode(now, before):
        return False
    if KEEPS_CHANGE_TIME and now.ctime_ns == before.ctime_ns:
        # One file of a server: no program can set back the time of its last change.
        return True
    # Nothing less than all of the content proves that a copy has the same values.
    return bool(before.content) and before.content == _content_of(uri, now)


def _differ_in_inode(now: Fingerprint, before: Fingerprint) -> bool:
    """Whether fingerprints differ in the inode and nothing else."""
    return replace(now, inode=before.inode) == before


def _for_others(uri: str, fingerprint: Fingerprint) -> Fingerprint:
    if fingerprint.version:
        return fingerprint
    is_small = fingerprint.size <= _SMALL_BYTES
    return replace(fingerprint, travels=True, content=_content_of(uri, fingerprint) if is_small else "")


@lru_cache(maxsize=4096)
def _content_of(uri: str, fingerprint: Fingerprint) -> str:  # noqa: ARG001 - it says which version was read
    """The hash of a file; empty if it cannot be read."""
    try:
        return storage_of(uri).content_hash(uri)
    except OSError:
        return ""


def split_rows(
    num_rows: int, row_bytes: float, target_bytes: int = TARGET_UNIT_BYTES, *, multiple: int = 1
) -> list[tuple[int, int]]:
    """Split rows into ranges ``(start, count)`` of about ``target_bytes`` each; one empty range for no rows.

    Each range but the last has a ``multiple`` of rows.
    """
    step = max(1, int(target_bytes / max(row_bytes, 1e-9)) // multiple) * multiple
    if num_rows <= step:
        return [(0, num_rows)]
    return [(start, min(step, num_rows - start)) for start in range(0, num_rows, step)]
