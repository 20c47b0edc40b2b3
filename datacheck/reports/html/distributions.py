"""The section of a page that shows how fields are distributed, in one dataset or side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datacheck.reports.distributions import FieldDistribution, Series
from datacheck.reports.html.charts import histogram, legend, paired_bars
from datacheck.reports.html.elements import Html, Section, join, name, table, tag
from datacheck.reports.html.style import SERIES_COLORS

__all__ = ["distribution_sections"]


def distribution_sections(fields: Sequence[FieldDistribution]) -> list[Section]:
    """A chart and a table for each field; nothing if there are none."""
    if not fields:
        return []
    names = [one.name for one in fields[0].series]
    title = "How the values are distributed" + (f": {' and '.join(names)}" if len(names) > 1 else "")
    note = "Shares of the finite values, in the same bins for all; the outermost bars hold everything beyond."
    if any(field.is_sampled for field in fields):
        note += " Bars are those of a sample of at least 4,096 values for each field; numbers in tables are exact."
    head = [tag("p", note, class_="soft")]
    if len(names) > 1:
        head.append(legend(list(zip(names, SERIES_COLORS, strict=False))))
    return [Section(title, *head, tag("div", *(_figure(field) for field in fields), class_="grid"))]


def _figure(field: FieldDistribution) -> Html:
    subject = field.path or "the array"
    title = f"Distribution of {subject}"
    series = [(one.name, one.shares, one.below, one.above) for one in field.series]
    if field.edges:
        axis = field.ends or (f"{field.edges[0]:.4g}", f"{field.edges[-1]:.4g}")
        chart = histogram(title, series, axis)
    else:
        chart = paired_bars(title, field.categories, [(one.name, one.shares) for one in field.series])
    return tag(
        "figure", tag("figcaption", name(subject)), chart, tag("details", tag("summary", "numbers"), _numbers(field))
    )


def _numbers(field: FieldDistribution) -> Html:
    rows = [_row(one) for one in field.series]
    head = ("", "values", "null", "NaN", "inf", "least", "greatest")
    counted = table(f"Counts of {field.path or 'the array'}", head, rows, numbers=(1, 2, 3, 4, 5, 6))
    return join(
        [
            counted,
            table(
                f"Shares of {field.path or 'the array'}",
                ("value", *(one.name for one in field.series)),
                _shares(field),
                numbers=(1, 2, 3),
            ),
        ]
    )


def _row(one: Series) -> tuple[str, ...]:
    counts = (one.num_values, one.num_null, one.num_nan, one.num_infinite)
    return (one.name, *(f"{number:,}" for number in counts), one.low, one.high)


def _shares(field: FieldDistribution) -> Iterator[tuple[str, ...]]:
    if field.categories:
        labels: list[str] = [name(category) for category in field.categories]
    else:
        labels = [f"{low:.4g} to {high:.4g}" for low, high in zip(field.edges, field.edges[1:], strict=False)]
    for index, label in enumerate(labels):
        shares = [one.shares[index] for one in field.series]
        if any(shares):
            yield (label, *(f"{100 * share:.2f} %" for share in shares))
    for word, values in (
        ("below", [one.below for one in field.series]),
        ("above", [one.above for one in field.series]),
    ):
        if any(values):
            label = "other values" if field.categories else word
            yield (label, *(f"{100 * share:.2f} %" for share in values))
