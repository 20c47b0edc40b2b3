"""The ``reading`` section of configurations and pipelines: how inputs are read."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, model_validator

from datacheck.errors import UsageError
from datacheck.schema.validation import fault
from datacheck.sources.base import NULL_WORDS, ReadOptions

_DEFAULTS = ReadOptions()


class Reading(BaseModel):
    """How inputs are read: how text is written, which version of a table, how far an archive expands.

    Attributes:
        csv_delimiter: what separates columns; ``whitespace`` for any number of blanks. By default as the name of the file says.
        csv_decimal, csv_thousands: the decimal mark of numbers, and the separator of their thousands.
        csv_quote: the character around cells; empty for none.
        csv_encoding: an encoding that Python knows.
        csv_null_values: words that mean null. NaN is not among them: ``nan`` is a number.
        csv_header: whether the first line has names. By default yes, except in a ``.txt`` of numbers.
        csv_comment: lines that begin with it are skipped. By default ``#`` in ``.txt`` files.
        max_expanded_bytes: how far a file may expand: by default 768 MiB in memory at once, 64 GiB step by step.
        max_expansion_ratio: how many times its size a file may expand to.
        max_members: how many members an archive may have.
        verify_checksums: whether to compare the checksums of Parquet pages and zip members with their bytes.
        trust_statistics: whether to leave Parquet column chunks unread whose statistics prove that no value breaks a rule.
        table_version: the version of a Delta table or Lance dataset, or snapshot of an Iceberg table; by default the newest.
        max_whole_file_bytes: how many bytes of decoded columns a check of all rows at once may hold in memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    csv_delimiter: str | None = None
    csv_decimal: str = _DEFAULTS.csv_decimal
    csv_thousands: str = ""
    csv_quote: str = _DEFAULTS.csv_quote
    csv_encoding: str = _DEFAULTS.csv_encoding
    csv_null_values: tuple[str, ...] = NULL_WORDS
    csv_header: bool | None = None
    csv_comment: str | None = None
    max_expanded_bytes: int | None = _DEFAULTS.max_expanded_bytes
    max_expansion_ratio: int = _DEFAULTS.max_expansion_ratio
    max_members: int = _DEFAULTS.max_members
    verify_checksums: bool = True
    trust_statistics: bool = False
    table_version: int | None = None
    max_whole_file_bytes: int = _DEFAULTS.max_whole_file_bytes

    @model_validator(mode="after")
    def _check(self) -> Reading:
        try:
            ReadOptions(**self.model_dump())
        except UsageError as error:
            name, _, problem = str(error).partition(": ")
            raise fault(name, problem) from None
        return self

    @cached_property
    def options(self) -> ReadOptions:
        return ReadOptions(**self.model_dump())
