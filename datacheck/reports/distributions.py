"""How the values of a field are distributed in one or more datasets, for reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """One dataset's values of a field.

    Attributes:
        name: of the dataset, such as ``before``.
        num_values: all slots of the field.
        num_null, num_nan, num_infinite: those that hold no finite value.
        shares: the part of the finite values in each bin, or of the present values in each category.
        below, above: the parts that lie outside of the bins, or are in other categories (``above``).
        low, high: the least and the greatest finite value, as text; empty where there is none.
    """

    name: str
    num_values: int
    num_null: int
    num_nan: int
    num_infinite: int
    shares: tuple[float, ...]
    below: float = 0.0
    above: float = 0.0
    low: str = ""
    high: str = ""


@dataclass(frozen=True, slots=True)
class FieldDistribution:
    """A field in one or more datasets, in the same bins.

    ``edges`` are the edges of the bins of numbers; ``categories`` are the most frequent values of a field with few. One of the
    two is empty. ``is_sampled`` says that shares come from a sample, and ``looked_at`` which part of the data was read,
    where it was not all. ``ends`` are the ends of the bins as text, where the edges are ticks of a clock or lie between
    integers.
    """

    path: str | None
    series: tuple[Series, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    is_sampled: bool = False
    looked_at: str = ""
    ends: tuple[str, str] | None = None
