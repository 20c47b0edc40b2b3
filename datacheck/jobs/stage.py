"""One pass over the units of a job: its name, and what its results refer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Looking for unchanged files needs neither NumPy nor Arrow.
    from datacheck.dataset_rules.base import DatasetRule


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the units of a job.

    Attributes:
        name: for progress and messages, such as ``scan``.
        references: objects that results refer to, and that every process has anyway, such as the rules of a plan.
        rules: the rules about the dataset whose state is a part of the results.
        is_valid: whether a saved result still holds: the files that it names exist.
        is_last: whether a shard is done after it. The results of the others are then needed only to merge.
    """

    name: str
    references: Sequence[Any] = ()
    rules: Sequence[DatasetRule] = ()
    is_valid: Callable[[Any], bool] | None = None
    is_last: bool = False


def name_of_item(item: Any) -> str:
    """An item of a pass in words: the file and, of a file of several units, the unit."""
    unit = getattr(item, "unit", item)
    if isinstance(unit, list | tuple):
        first = name_of_item(unit[0]) if unit else ""
        others = [one for one in unit[1:] if hasattr(one, "uri") or hasattr(one, "unit")]
        return f"{first} and {len(others)} more" if others else first
    uri = getattr(unit, "uri", None)
    if uri is None:
        return str(unit)
    return f"{uri}, unit {unit.index}" if hasattr(unit, "index") else str(uri)
