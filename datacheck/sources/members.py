"""Plans the units of a file of several named arrays, which may be the columns of one table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datacheck.sources.base import TARGET_UNIT_BYTES, InputInfo, ReadOptions, WorkUnit, split_rows
from datacheck.storage.base import Fingerprint
from datacheck.text import join_limited, quantity

#: The path of a field of a sample in a list.
_OF_SAMPLE = re.compile(r"\d+\.")
#: The most members that are named with what is wrong with them.
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Member:
    """One array of a file: its rows (1 for a scalar), and the bytes of one row.

    ``sequential`` members can only be read from their start. ``problem`` says why the member cannot be a column.
    ``chunk_rows`` is the number of rows that are stored together: units end where such chunks do.
    """

    name: str
    num_rows: int
    row_bytes: int
    is_scalar: bool = False
    sequential: bool = False
    problem: str = ""
    chunk_rows: int = 1

    @property
    def num_bytes(self) -> int:
        return self.num_rows * self.row_bytes


def plan_members(
    uri: str,
    format_: str,
    fingerprint: Fingerprint,
    members: Sequence[Member],
    options: ReadOptions,
    problem: str = "",
) -> InputInfo:
    """Split the arrays of a file into units.

    Arrays with equal numbers of rows are columns of one table, split into ranges of rows. Others are read one by one:
    large ones in ranges of rows, small ones several to a unit. So are all arrays if a ``problem`` keeps them from being
    read side by side.
    """
    if options.columns is not None:
        members = [member for member in members if member.name in options.columns]
    problem = problem or _why_no_table(members)
    num_rows = sum(member.num_rows for member in members) if problem else max((m.num_rows for m in members), default=0)
    if problem:
        parts = _parts_alone(members)
    else:
        whole = any(member.sequential for member in members)
        ranges = (
            [(0, num_rows)]
            if whole
            else split_rows(
                num_rows,
                sum(member.row_bytes for member in members),
                TARGET_UNIT_BYTES,
                multiple=max((member.chunk_rows for member in members), default=1),
            )
        )
        parts = [((), start, count) for start, count in ranges]
    units = tuple(
        WorkUnit(uri, format_, index, fingerprint, start, count, members=names, options=options)
        for index, (names, start, count) in enumerate(parts)
    )
    return InputInfo(uri, format_, fingerprint.size, num_rows, units, aligned=not problem, problem=problem)


def _why_no_table(members: Sequence[Member]) -> str:
    if problems := list(dict.fromkeys(member.problem for member in members if member.problem)):
        hidden = len(problems) - _MAX_PROBLEMS
        return "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {hidden:,} more" if hidden > 0 else "")
    if members and all(_OF_SAMPLE.match(member.name) for member in members):
        return "it is a list of samples"
    if len({member.num_rows for member in members}) <= 1 and not any(member.is_scalar for member in members):
        return ""
    lengths: dict[str, list[str]] = {}
    for member in members:
        lengths.setdefault("a scalar" if member.is_scalar else quantity(member.num_rows, "row"), []).append(member.name)
    return "; ".join(f"{length} in {join_limited(names, 3)}" for length, names in list(lengths.items())[:8])


def _parts_alone(members: Sequence[Member]) -> list[tuple[tuple[str, ...], int, int]]:
    """``(names, row_start, num_rows)`` of units: ranges of a large array, several small ones whole, all with a problem last."""
    parts: list[tuple[tuple[str, ...], int, int]] = []
    problems = tuple(member.name for member in members if member.problem)
    names: list[str] = []
    held_rows = held_bytes = 0
    for member in members:
        if member.problem:
            continue
        if names and held_bytes + member.num_bytes > TARGET_UNIT_BYTES:
            parts.append((tuple(names), 0, held_rows))
            names, held_rows, held_bytes = [], 0, 0
        if member.num_bytes > TARGET_UNIT_BYTES and member.sequential:
            parts.append(((member.name,), 0, member.num_rows))
        elif member.num_bytes > TARGET_UNIT_BYTES:
            ranges = split_rows(member.num_rows, member.row_bytes, TARGET_UNIT_BYTES, multiple=member.chunk_rows)
            parts += [((member.name,), start, count) for start, count in ranges]
        else:
            names.append(member.name)
            held_rows += member.num_rows
            held_bytes += member.num_bytes
    last = ((tuple(names), 0, held_rows), (problems, 0, 0))
    return [*parts, *(part for part in last if part[0])]
