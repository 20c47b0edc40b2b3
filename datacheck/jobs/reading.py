"""The ``reading`` section of configurations and pipelines: how inputs are read."""

from __future__ import annotations

from functools import cached_property

from pydantic import BaseModel, ConfigDict, model_validator

from datacheck.errors import UsageError
from datacheck.schema.validation import fault
from datacheck.sources.base import NULL_WORDS, ReadOptions

__all__ = ["Reading"]

_DEFAULTS = ReadOptions()


class Reading(BaseModel):
    """How inputs are read: how text is written, which version of a table, how far an archive expands. See ``ReadOptions``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
