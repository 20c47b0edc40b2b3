"""The section of a page that shows how fields are distributed, in one dataset or side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from datacheck.reports.distributions import FieldDistribution, Series
from datacheck.reports.html.charts import histogram, legend, paired_bars
from datacheck.reports.html.elements import Html, Section, folded, name, table, tag
from datacheck.reports.html.style import SERIES_COLORS


def distribution_sections(fields: Sequence[FieldDistribution]) -> list[Section]:
    """A chart and a table for each field; nothing if there are none."""
    if not fields:
        return []
    names = [one.name for one in fields[0].series]
    title = "How the values are distributed" + (f": {' and '.join(names)}" if len(names) > 1 else "")
    note = "Shares of the finite values, in the same bins for all; the outermost bars hold everything beyond."
    if len(names) > 1:
        note += " Fields that differ most come first."
        fields = sorted(fields, key=_difference, reverse=True)
    if any(field.is_sampled for field in fields):
        note += " Bars come from a sample of at least 4,096 values for each field"
        note += "." if fields[0].looked_at else "; numbers in tables are exact."
    if fields[0].looked_at:
        note += f" To be quick, only a part was read for this section: {fields[0].looked_at}."
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
    caption = tag("figcaption", name(subject), *_changes(field.series))
    return tag("figure", caption, chart, folded("numbers", *_numbers(field)))


def _difference(field: FieldDistribution) -> float:
    """How far the first and the last dataset are apart: the total variation distance, or the change of a rate of gaps."""
    first, last = field.series[0], field.series[-1]
    pairs = [*zip(first.shares, last.shares, strict=True), (first.below, last.below), (first.above, last.above)]
    rates = zip(_rates(first), _rates(last), strict=True)
    return max(sum(abs(a - b) for a, b in pairs) / 2, *(abs(a - b) for a, b in rates))


def _rates(one: Series) -> list[float]:
    return [number / max(one.num_values, 1) for number in (one.num_null, one.num_nan, one.num_infinite)]


def _changes(series: Sequence[Series]) -> Iterator[Html]:
    """The gaps in each dataset, where there are any: how many before, how many after."""
    counts = {
        "null": [one.num_null for one in series],
        "NaN": [one.num_nan for one in series],
        "inf": [one.num_infinite for one in series],
    }
    texts = [f"{word} {' → '.join(f'{n:,}' for n in numbers)}" for word, numbers in counts.items() if any(numbers)]
    if texts:
        yield tag("span", f" {', '.join(texts)}", class_="soft")


def _numbers(field: FieldDistribution) -> Iterator[Html]:
    subject = field.path or "the array"
    head = ("dataset", "values", "null", "NaN", "inf", "least", "greatest")
    yield table(f"Counts of {subject}", head, map(_row, field.series), numbers=range(1, 7))
    datasets = [one.name for one in field.series]
    yield table(f"Shares of {subject}", ("value", *datasets), _shares(field), numbers=range(1, len(datasets) + 1))


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
