"""One code, with everything that the rest of datacheck needs to know about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

#: What a finding of a code is about. ``file``: the file, or a whole column of it.
Level = Literal["value", "row", "file", "dataset", "training"]


#: The indentation of a text after its first line. Line breaks within a paragraph are only there to wrap it.
_INDENT = " " * 12
_IN_PARAGRAPH = re.compile(rf"(?<=\S)\n{_INDENT}(?=\S)")


class Family(StrEnum):
    """A family of codes, which share their first digit."""

    STRUCTURE = "Structure"
    MISSING = "NaN, infinities and nulls"
    BOUNDS = "Bounds and membership"
    ROWS = "Rows and datasets"
    TRAINING = "Training"
    NOTES = "Notes"
    MEDIA = "Images and audio"
    UNREADABLE = "Unreadable inputs"
    OWN = "Checks of your own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code: its text for ``datacheck explain``, and how findings with it are counted, kept and acted on.

    Attributes:
        message: the line that a finding prints, with the placeholders ``{violations}``, ``{checked}``, ``{field}``,
            ``{rule}`` and ``{detail}``.
        message_of_values: the line of a finding about single values, for a code that is otherwise about a file.
        finds, why, example, remedy: the sections of ``datacheck explain``. An indented line is output in an example,
            and YAML to copy in a remedy. Paragraphs are wrapped and indented like the code around them.
        nameless_field: what ``{field}`` is in a finding without a field.
        counts_nulls: whether ``num_checked`` includes nulls.
        becomes_null: whether coercion turns the violating values into nulls, so that they are not among the values
            that are present.
        cacheable: whether a verdict with this code depends on the content of the file alone. It doesn't where it
            depends on permissions, on installed libraries or on the moment.
        tolerable: whether a part of the values or rows may violate the rule (``tolerances``).
        allowable: whether a schema can allow the values (``allow_nan``, ``allow_inf``, ``nullable``).
        repairable: whether the violating values can be told one by one, so that a rule can replace them.
        shows_words: whether the message shows some of the values, which are words.
        shows_values: whether a message shows the violating values, which the name of the code doesn't tell.
        side: the end of the range that the values lie beyond.
        about_inputs: whether findings are about the input files together, so that no cleaning rule can act on them.
    """

    code: str
    name: str
    family: Family
    level: Level
    message: str
    finds: str
    why: str
    example: str
    remedy: str
    severity: str = "error"
    message_of_values: str = ""
    nameless_field: str = "the array"
    counts_nulls: bool = False
    becomes_null: bool = False
    cacheable: bool = True
    tolerable: bool = False
    allowable: bool = False
    repairable: bool = False
    shows_words: bool = False
    shows_values: bool = False
    side: Literal["lower", "upper"] | None = None
    about_inputs: bool = False

    def __post_init__(self) -> None:
        for name in ("finds", "why", "example", "remedy"):
            text = getattr(self, name)
            if "\n" in text:
                unwrapped = _IN_PARAGRAPH.sub(" ", text).replace(f"\n{_INDENT}", "\n")
                object.__setattr__(self, name, unwrapped)

    @property
    def counts_values(self) -> bool:
        """Whether findings may be about single values."""
        return self.level == "value" or bool(self.message_of_values)

    @property
    def is_error(self) -> bool:
        return self.severity == "error"
