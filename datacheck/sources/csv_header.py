"""The first lines of a text table: how its columns are separated, and their names."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from datacheck.errors import SourceError
from datacheck.sources.base import WHITESPACE, ReadOptions
from datacheck.sources.csv_lines import Dialect
from datacheck.sources.error_translation import check_members
from datacheck.sources.recognizers import is_number

#: Delimiters to try on a file that seems to have one column, and how many of its lines must agree.
_DELIMITERS = (";", "\t", "|", ",")
_LINES_LOOKED_AT = 20


@dataclass(frozen=True)
class Header:
    """The names of the columns, the lines before the first row, and how the file is written."""

    names: Sequence[str]
    num_lines: int
    dialect: Dialect

    @cached_property
    def labels(self) -> list[str]:
        """Unique names for the parser."""
        return [str(index) for index in range(len(self.names))]


def read_header(uri: str, head: str, options: ReadOptions) -> Header:
    """The header in the first text of a file; raises ``SourceError``."""
    is_txt = uri.lower().endswith((".txt", ".txt.gz"))
    dialect = _dialect(uri, head, options, is_txt=is_txt)
    text = dialect.simplify(head.encode()).decode()
    first = next(_records(uri, text, dialect), None)
    if first is None:
        raise SourceError("DC901", uri, "it has no header, only empty lines", "write column names in its first line")
    cells, num_lines = first
    check_members(uri, len(cells), options.max_members, "columns")
    has_header = options.csv_header
    if has_header is None:
        has_header = not (is_txt and all(map(is_number, cells)))
    if len(cells) == 1 and dialect.delimiter is not None:
        _check_delimiter(uri, text, dialect.delimiter.decode())
    if has_header:
        return Header(cells, num_lines, dialect)
    return Header([f"column_{index}" for index in range(len(cells))], 0, dialect)


def _dialect(uri: str, head: str, options: ReadOptions, *, is_txt: bool) -> Dialect:
    comment = options.csv_comment if options.csv_comment is not None else "#" if is_txt else ""
    delimiter = options.csv_delimiter
    if delimiter is None:
        delimiter = "\t" if uri.lower().endswith((".tsv", ".tsv.gz")) else ","
        if is_txt:
            lines = (
                line for line in head.splitlines() if line.strip() and not line.lstrip().startswith(comment or "\n")
            )
            line = next(lines, "")
            delimiter = next((one for one in ("\t", ",", ";", "|") if one in line), WHITESPACE)
            if delimiter == "\t" and re.search(r" |^\t|\t\t|\t$", line):
                delimiter = WHITESPACE
    if delimiter == WHITESPACE:
        return Dialect(None, b"", comment.encode())
    return Dialect(delimiter.encode(), options.csv_quote.encode(), comment.encode())


def _records(uri: str, text: str, dialect: Dialect) -> Iterator[tuple[list[str], int]]:
    """The records that are not empty, after the comments at the start, and the number of lines up to their end."""
    quoting = {"quotechar": dialect.quote.decode()} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    num_comments = 0
    if dialect.comment:
        # A quote in a comment opens nothing.
        comments = re.match(rf"(?:[^\S\r\n]*(?:{re.escape(dialect.comment.decode())}[^\r\n]*)?(?:\r\n|\r|\n))*", text)
        assert comments is not None
        num_comments = len(re.findall(r"\r\n|\r|\n", comments[0]))
        text = text[comments.end() :]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=dialect.column_delimiter.decode(), strict=True, **quoting
    )
    try:
        for cells in reader:
            if cells:
                yield cells, num_comments + reader.line_num
    except csv.Error as error:
        raise SourceError("DC901", uri, f"the header cannot be parsed ({error})", "check its quotes") from None


def _check_delimiter(uri: str, text: str, delimiter: str) -> None:
    """Refuse a file of one column whose lines all have as many cells with another delimiter: it would be read as text."""
    for other in _DELIMITERS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=other)
        try:
            counts = {len(cells) for cells in itertools.islice(lines, _LINES_LOOKED_AT) if cells}
        except csv.Error:
            continue
        if other != delimiter and len(counts) == 1 and 1 not in counts:
            raise _wrong_delimiter(uri, counts.pop(), repr(other), repr(other), delimiter)
    rows = [line.split() for line in text.splitlines()[: _LINES_LOOKED_AT + 1] if line.strip()]
    counts = {len(cells) for cells in rows}
    if (
        len(counts) == 1
        and counts != {1}
        and len(rows) > 1
        and all(is_number(cell) for row in rows[1:] for cell in row)
    ):
        raise _wrong_delimiter(uri, counts.pop(), "blanks", WHITESPACE, delimiter)


def _wrong_delimiter(uri: str, number: int, separator: str, option: str, delimiter: str) -> SourceError:
    problem = f"its one column looks like {number} columns separated by {separator}, not {delimiter!r}"
    value = option.strip("'")
    return SourceError(
        "DC901", uri, problem, f"set csv_delimiter: {option} under 'reading', or --csv-delimiter {value!r}"
    )
