"""What stands in a list of samples where one was skipped."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SkippedSample"]


@dataclass(frozen=True, slots=True)
class SkippedSample:
    """The place of a sample that ``on_bad="skip"`` left out. Only :class:`SafeCollate` knows what to do with it."""

    index: int

    def __repr__(self) -> str:
        return f"SkippedSample({self.index}): give the loader collate_fn=SafeCollate(), or use compact()"
