"""Rules about a dataset as a whole, as a schema file writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, field_validator, model_validator
from pydantic import Field as Described

from datacheck.schema.base_model import SchemaPart
from datacheck.schema.intervals import Count, Duration, Step
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import fault
from datacheck.schema.values import Keys, Plain

Order = Literal["increasing", "strictly_increasing", "decreasing", "strictly_decreasing"]


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _listed(value: object) -> object:
    """Accept a single rule for a list of one."""
    return (value,) if isinstance(value, Mapping | SchemaPart) else value if value is not None else ()


_Name = Annotated[str, Described(min_length=1)]
Names = Annotated[tuple[_Name, ...], BeforeValidator(_names, json_schema_input_type=_Name | tuple[_Name, ...])]


def _check_names(at: str, names: tuple[str, ...]) -> None:
    for name in names:
        if "[]" in name:
            raise fault(at, f"'{name}' is inside a list, so it is not one value per row")
    if len(set(names)) < len(names):
        raise fault(at, "lists a field twice")


class Sequence(SchemaPart):
    """A rule about neighbouring rows, within groups: their order, their step, their number."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "group_by": "'by'",
        "groupby": "'by'",
        "sort": "'order'",
        "monotonic": "'order'",
        "max_gap": "'step: {le: ...}'",
        "gap": "'step: {le: ...}'",
        "size": "'num_rows'",
    }

    by: Names = Described(default=(), description="The fields that rows of one group share; all rows are one group.")
    on: str | None = Described(default=None, description="The field whose values follow each other: a number or time.")
    order: Order | None = Described(
        default=None, description="How the values follow each other; increasing, unless there is a step."
    )
    step: Step | None = Described(
        default=None, description="The difference from the row before: 1, 1h, or bounds such as {le: 2h}."
    )
    num_rows: Count | None = Described(default=None, description="The number of rows of each group.")
    contiguous: bool = Described(
        default=False, strict=True, description="Whether the rows of a group must be contiguous."
    )
    name: str | None = Described(default=None, min_length=1, description="The name in reports.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _check_names("by", self.by)
        if self.on is None:
            for key in ("order", "step"):
                if getattr(self, key) is not None:
                    raise fault(key, "is about the values of a field; name it with 'on'")
            if self.num_rows is None and not self.contiguous:
                raise fault("on", "is required, unless the rule is about 'num_rows' or 'contiguous' groups")
        elif self.on in self.by or "[]" in self.on:
            raise fault("on", f"'{self.on}' must be a field with one value per row that is not in 'by'")
        if not self.by and (self.num_rows is not None or self.contiguous):
            raise fault(
                "by",
                "names the groups that 'num_rows' and 'contiguous' are about; for all rows use 'num_rows' "
                "of the schema",
            )
        return self

    @property
    def required_order(self) -> Order | None:
        """The order of neighbouring values: increasing, unless it is stated or follows from the step."""
        return self.order or ("increasing" if self.on is not None and self.step is None else None)

    @property
    def label(self) -> str:
        """The name of the rule in reports."""
        within = f" within {', '.join(self.by)}" if self.by else ""
        return self.name or f"{self.on or 'rows'}{within}"


class Determines(SchemaPart):
    """Fields whose values determine the values of other fields: rows that agree in ``fields`` agree in ``determine``."""

    fields: Names = Described(description="The fields that determine the others.")
    determine: Names = Described(description="The fields that are determined.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key in ("fields", "determine"):
            if not getattr(self, key):
                raise fault(key, "is empty; name at least one field")
            _check_names(key, getattr(self, key))
        if both := set(self.fields) & set(self.determine):
            raise fault("determine", f"'{min(both)}' cannot determine itself")
        return self

    @property
    def label(self) -> str:
        return f"{', '.join(self.fields)} -> {', '.join(self.determine)}"


def _dependencies(value: object) -> object:
    """Accept ``{text: label}`` for a list of rules; several fields are separated by commas."""
    if isinstance(value, Mapping) and not {"fields", "determine"} & value.keys():
        return tuple(
            {"fields": _split(name), "determine": _split(other) if isinstance(other, str) else other}
            for name, other in value.items()
        )
    return _listed(value)


def _split(names: object) -> object:
    return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names


class Reference(SchemaPart):
    """A foreign key: each value of ``fields`` is a key in another file, or the name of a file in a folder."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"table": "'file'", "path": "'file' or 'folder'", "to": "'file'"}

    fields: Names = Described(description="The fields of the key.")
    file: str | None = Described(
        default=None, min_length=1, description="The file, folder of files or glob with the keys."
    )
    keys: Names = Described(default=(), description="The fields of the key in that file, where their names differ.")
    folder: str | None = Described(
        default=None, min_length=1, description="A folder: each value is the path of a file below it."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _check_names("fields", self.fields)
        if not self.fields:
            raise fault("fields", "is empty; name at least one field")
        if (self.file is None) is (self.folder is None):
            raise fault((), "needs either 'file' with the keys, or 'folder' with the files")
        if self.folder is not None and len(self.fields) > 1:
            raise fault("fields", "the name of a file is one field")
        if self.keys and (self.folder is not None or len(self.keys) != len(self.fields)):
            raise fault("keys", "must name as many fields of 'file' as 'fields' does")
        return self

    @property
    def label(self) -> str:
        return f"{', '.join(self.fields)} in {self.file or self.folder}"


class TimeApart(SchemaPart):
    """The other splits begin in time after the training split ends."""

    on: str = Described(description="The field with the time.")
    gap: Duration | None = Described(default=None, description="The least time between them, such as 7d.")


class Splits(SchemaPart):
    """Rules across splits: the training split, and each other one."""

    train: str | None = Described(default=None, description="The training split; the one to learn from, or 'train'.")
    apart: Keys = Described(default=(), description="Keys that may occur in one split only.")
    within: Keys = Described(default=(), description="Keys of other splits that must occur in the training split.")
    time: TimeApart | None = Described(
        default=None, description="The field by whose time the other splits come after the training split."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for at in ("apart", "within"):
            for key in getattr(self, at):
                _check_names(at, key)
        if not self.apart and not self.within and self.time is None:
            raise fault((), "has no rule; expected 'apart', 'within' or 'time'")
        return self


def _own_check(value: object) -> object:
    return {"check": value} if isinstance(value, str) else value


def _own_checks(value: object) -> object:
    return _listed((value,) if isinstance(value, str) else value)


class OwnCheck(SchemaPart):
    """A check of the user's: an entry point of the group ``datacheck.checks``, or ``package.module:name``."""

    check: str = Described(description="The name of an entry point, or package.module:name, which is then imported.")
    arguments: Plain = Described(default={}, description="Arguments of the check by name.")

    @field_validator("check")
    @classmethod
    def _well_formed(cls, name: str) -> str:
        if not REFERENCE.fullmatch(name) and not name.replace("_", "a").replace("-", "a").replace(".", "a").isalnum():
            raise ValueError(f"expected the name of an entry point, or 'package.module:name', got {name!r}")
        return name


Sequences = Annotated[
    tuple[Sequence, ...], BeforeValidator(_listed, json_schema_input_type=Sequence | tuple[Sequence, ...])
]
Dependencies = Annotated[
    tuple[Determines, ...],
    BeforeValidator(
        _dependencies, json_schema_input_type=Determines | tuple[Determines, ...] | dict[str, str | tuple[_Name, ...]]
    ),
]
References = Annotated[
    tuple[Reference, ...], BeforeValidator(_listed, json_schema_input_type=Reference | tuple[Reference, ...])
]
OwnChecks = Annotated[
    tuple[Annotated[OwnCheck, BeforeValidator(_own_check)], ...],
    BeforeValidator(_own_checks, json_schema_input_type=str | OwnCheck | tuple[str | OwnCheck, ...]),
]
