"""The table of codes: what each one finds, why that is bad, an example and how to mend it.

It is the one source of ``datacheck explain``. Codes are stable: a released code keeps its number and its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODES", "Code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code.

    ``message`` is the line that a finding prints, with ``{violations}``, ``{checked}``, ``{field}``, ``{rule}`` and
    ``{detail}`` to be filled in. ``finds``, ``why``, ``example`` and ``remedy`` are what ``datacheck explain`` prints.
    """

    code: str
    name: str
    message: str
    finds: str
    why: str
    example: str
    remedy: str
    severity: str = "error"


_TABLE = (
    Code(
        code="DC001",
        name="missing-field",
        message="{field} is missing: {detail}",
        finds="A field that the schema requires is not in the file.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC002",
        name="extra-field",
        message="{field} is not in the schema, which is strict",
        finds="A field that a strict schema does not name.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC003",
        name="dtype",
        message="{field} has the wrong dtype: {detail}",
        finds="A field whose dtype is not the one that the schema asks for.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC004",
        name="shape",
        message="{field} has the wrong shape: {detail}",
        finds="An array, or the value of a row, whose shape is not the one that the schema asks for.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC005",
        name="not-checked",
        message="{field} could not be checked: {detail}",
        finds="A field that may hold NaN or infinities and that datacheck cannot look into.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC006",
        name="duplicate-field",
        message="{field} names more than one column: {detail}",
        finds="Two columns of one file with the same name.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC101",
        name="nan",
        message="{violations} of {checked} values are NaN in {field}",
        finds="A floating-point or complex value that is NaN.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC102",
        name="pos-inf",
        message="{violations} of {checked} values are +inf in {field}",
        finds="A floating-point or complex value that is +inf.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC103",
        name="neg-inf",
        message="{violations} of {checked} values are -inf in {field}",
        finds="A floating-point or complex value that is -inf.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC104",
        name="null",
        message="{violations} of {checked} values are null in {field}",
        finds="A null (an Arrow null, an empty CSV cell, a NaT, a masked value) in a field that is not nullable.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC201",
        name="ge",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value below the lower bound `ge`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC202",
        name="le",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value above the upper bound `le`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC203",
        name="gt",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value at or below the exclusive lower bound `gt`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC204",
        name="lt",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value at or above the exclusive upper bound `lt`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC205",
        name="isin",
        message="{violations} of {checked} values in {field} are not {detail}",
        finds="A value outside the list `isin`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC206",
        name="str-matches",
        message="{violations} of {checked} values in {field} do not match {detail}",
        finds="A string that the regular expression `str_matches` does not match from its start.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC207",
        name="check",
        message="{violations} of {checked} values in {field} fail {rule}",
        finds="A value that fails one of the pandera checks listed under the field's `checks`.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC301",
        name="duplicate",
        message="{violations} of {checked} rows repeat an earlier {field}",
        finds="A row whose key stood in an earlier row of the data set, in this file or another.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC302",
        name="expression",
        message="{violations} of {checked} rows break {rule}: {detail}",
        finds="A row for which one of the schema's cross-field expressions is false.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC303",
        name="pandera",
        message="{violations} of {checked} rows fail {rule} in {field}",
        finds="A row that the pandera schema named by `pandera:` refuses.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC304",
        name="unequal-lengths",
        message="the arrays are not rows of one table: {detail}",
        finds="Arrays that are cleaned together and have unequal numbers of rows.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC305",
        name="malformed-row",
        message="{violations} of {checked} lines do not have the columns of the header: {detail}",
        finds="A line of a CSV file with more or fewer cells than the header.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC306",
        name="no-rows",
        severity="warning",
        message="no rows: {detail}",
        finds="A file that can be read and holds no row.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC901",
        name="unreadable",
        message="cannot be read: {detail}",
        finds="A file that is truncated, corrupt, or not of the format that its name says.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC902",
        name="not-found",
        message="cannot be opened: {detail}",
        finds="A file that is not there, that vanished while the job ran, or that may not be read.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC903",
        name="executable",
        message="asks to run code when it is loaded: {detail}",
        finds="A pickled `.npy` or `.npz` member, or a `.pt` file that needs more than tensors to be loaded.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC904",
        name="expands-too-far",
        message="expands beyond its limits: {detail}",
        finds="An archive that would expand beyond the size, ratio or member count that is allowed (a zip bomb).",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC905",
        name="encrypted",
        message="is encrypted: {detail}",
        finds="An encrypted Parquet file, or an encrypted archive member.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC906",
        name="pointer",
        message="is a pointer, not the data: {detail}",
        finds="A Git LFS or DVC pointer where the data should be.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC907",
        name="empty-file",
        message="holds no bytes: {detail}",
        finds="A file of zero bytes.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC908",
        name="changed",
        message="changed while it was read: {detail}",
        finds="A file whose size, time or identity changed between the start of the job and the reading of its last row.",
        why="",
        example="",
        remedy="",
    ),
    Code(
        code="DC909",
        name="unknown-format",
        message="is of no format that datacheck reads: {detail}",
        finds="A file whose name has no known suffix and whose first bytes match no known format.",
        why="",
        example="",
        remedy="",
    ),
)

#: Every code by its number.
CODES: dict[str, Code] = {entry.code: entry for entry in _TABLE}
