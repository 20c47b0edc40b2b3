"""Charts as inline SVG with presentation attributes only, each with a text alternative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datacheck.reports.html.elements import Html, tag
from datacheck.reports.html.style import BAD, NEUTRAL, SERIES_COLORS
from datacheck.text import plain

#: Values by step: None where nothing was measured.
Curve = Sequence[tuple[int, float | None]]

_WIDTH = 980.0
_SMALL_WIDTH = 470.0
_SMALL_HEIGHT = 84.0
_END_WIDTH = 22.0
_FONT = "Inter, system-ui, sans-serif"
_STEPS = 5
_MAX_LABEL = 32
#: The ratio of the greatest to the least value above which a scale is logarithmic.
_LOG_FROM = 300


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A line of a heat map: its label, and the count and tooltip of each cell; no cell where the count is 0."""

    label: str
    cells: Sequence[tuple[int, str]]


def heat_map(title: str, rows: Sequence[HeatRow], axis: tuple[str, str]) -> Html:
    """Counts by place, a line for each file: darker is more. ``axis`` labels the first and the last column."""
    num_columns = max(len(row.cells) for row in rows)
    most = max(count for row in rows for count, _ in row.cells)
    lines = [tag("div", tag("code", _end_of(row.label)), _strip(title, row, num_columns, most)) for row in rows]
    ends = tag("span", tag("span", axis[0]), tag("span", axis[1]), class_="axis")
    return tag("div", *lines, tag("div", ends), class_="map")


def _strip(title: str, row: HeatRow, num_columns: int, most: int) -> Html:
    cells = (
        tag(
            "rect",
            tag("title", tooltip),
            x=column,
            y=0,
            width=0.9,
            height=1,
            fill=BAD,
            fill_opacity=_opacity(count, most),
        )
        for column, (count, tooltip) in enumerate(row.cells)
        if count
    )
    whole = tag("rect", x=0, y=0, width=len(row.cells), height=1, fill=NEUTRAL, fill_opacity="0.14")
    total = sum(count for count, _ in row.cells)
    label = f"{title}, {row.label}: {total:,}"
    return _svg(label, 1, whole, *cells, width=num_columns, shown=("100%", 13))


def _opacity(count: int, most: int) -> str:
    """A step for each power, so that one value among millions is still seen."""
    share = math.log1p(count) / math.log1p(most) if most > 1 else 1.0
    return f"{0.25 + 0.75 * math.ceil(share * _STEPS) / _STEPS:.2f}"


def stacked_bar(title: str, parts: Sequence[tuple[str, int, str]]) -> Html:
    """Parts of a whole side by side: name, count and color of each. A part that is not 0 is never thinner than a hair."""
    total = sum(count for _, count, _ in parts) or 1
    drawn, left = [tag("title", title)], 0.0
    for name, count, color in parts:
        if count:
            width = max(_WIDTH * count / total, 3.0)
            drawn.append(
                tag("rect", tag("title", f"{name}: {count:,}"), x=left, y=0, width=width, height=14, fill=color)
            )
            left += width
    return _svg(title, 14, *drawn, width=max(left, _WIDTH), shown=("100%", 14), class_="bar")


def legend(parts: Sequence[tuple[str, str]]) -> Html:
    """What the colors of a chart stand for: names and colors."""
    return tag("p", *(piece for name, color in parts for piece in (_swatch(color), f" {name}  ")), class_="soft")


def _swatch(color: str) -> Html:
    return tag(
        "svg",
        tag("rect", x=0, y=0, width=11, height=11, fill=color),
        width=11,
        height=11,
        viewBox="0 0 11 11",
        aria_hidden="true",
        class_="swatch",
    )


def histogram(title: str, series: Sequence[tuple[str, Sequence[float], float, float]], axis: tuple[str, str]) -> Html:
    """Shares by bin: the first of several series as bars, the others as outlines over them.

    A series is a name, the share of each bin, and the shares below and above all bins, which are apart at the ends.
    """
    highest = max((max(*shares, below, above) for _, shares, below, above in series), default=0.0) or 1.0
    drawn = [tag("title", title)]
    for index, (name, shares, below, above) in enumerate(series):
        color = SERIES_COLORS[index if len(series) > 1 else 1]
        outline: dict[str, str | float] = {"fill": "none", "stroke": color, "stroke_width": 1.5}
        style = outline if index else {"fill": color, "fill_opacity": "0.5"}
        ends = ([below], 0.0, _END_WIDTH - 5), ([above], _SMALL_WIDTH - _END_WIDTH + 5, _END_WIDTH - 5)
        inner = shares, _END_WIDTH, (_SMALL_WIDTH - 2 * _END_WIDTH) / len(shares)
        path = "".join(_steps_path(*part, highest) for part in (ends[0], inner, ends[1]))
        drawn.append(tag("path", tag("title", name), d=path, **style))
    return _small_chart(title, drawn, axis)


def _steps_path(shares: Sequence[float], left: float, width: float, highest: float) -> str:
    """Bins of a width side by side, as one outline for each run of bins that hold something."""
    parts, is_drawing = [], False
    for number, share in enumerate((*shares, 0.0)):
        top = _SMALL_HEIGHT - (max(share / highest * (_SMALL_HEIGHT - 4), 1.5) if share > 0 else 0.0)
        if share > 0 and not is_drawing:
            parts.append(f"M{left + number * width:.1f} {_SMALL_HEIGHT:.0f}")
        if share > 0:
            parts.append(f"V{top:.1f}H{left + (number + 1) * width:.1f}")
        elif is_drawing:
            parts.append(f"V{_SMALL_HEIGHT:.0f}")
        is_drawing = share > 0
    return "".join(parts)


def _small_chart(title: str, drawn: Sequence[Html], ends: tuple[str, str], middle: str = "") -> Html:
    """What is drawn above an axis with a label at each end."""
    base, right = _SMALL_HEIGHT + 15, _SMALL_WIDTH - _END_WIDTH
    axis = tag("line", x1=0, y1=_SMALL_HEIGHT, x2=_SMALL_WIDTH, y2=_SMALL_HEIGHT, stroke=NEUTRAL, stroke_width=1)
    labels = [_label(ends[0], _END_WIDTH, base), _label(ends[1], right, base, anchor="end")]
    if middle:
        labels.append(_label(middle, _SMALL_WIDTH / 2, base, anchor="middle"))
    return _svg(title, _SMALL_HEIGHT + 20, *drawn, axis, *labels, width=_SMALL_WIDTH)


def line_chart(title: str, curve: Curve, marks: Sequence[int]) -> Html:
    """Values by step; ``marks`` are steps with upright lines. Values of several powers of ten are on a logarithmic scale."""
    first, last = curve[0][0], max(curve[-1][0], curve[0][0] + 1)
    finite = [value for _, value in curve if value is not None and math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    is_log = low > 0 and high / low > _LOG_FROM
    bottom, top = (math.log(low), math.log(high)) if is_log else (low, high)

    def x_of(step: int) -> float:
        return (step - first) / (last - first) * (_SMALL_WIDTH - 2 * _END_WIDTH) + _END_WIDTH

    def y_of(value: float) -> float:
        share = ((math.log(value) if is_log else value) - bottom) / (top - bottom) if top > bottom else 0.5
        return _SMALL_HEIGHT - 2 - share * (_SMALL_HEIGHT - 16)

    drawn = [tag("title", title)]
    upright: dict[str, str | float] = {
        "y1": 12,
        "y2": _SMALL_HEIGHT,
        "stroke": BAD,
        "stroke_width": 1,
        "stroke_opacity": "0.55",
    }
    for step in dict.fromkeys(marks):
        if first <= step <= last:
            drawn.append(
                tag("line", tag("title", f"anomaly at step {step:,}"), x1=x_of(step), x2=x_of(step), **upright)
            )
    joins = {"stroke_linejoin": "round", "stroke_linecap": "round"}
    lines, dots = _line_paths(curve, x_of, y_of)
    for path, width in ((lines, 1.5), (dots, 5)):
        if path:
            drawn.append(tag("path", d=path, fill="none", stroke=SERIES_COLORS[1], stroke_width=width, **joins))
    for step, value in curve:
        if value is not None and not math.isfinite(value):
            cross = f"M{x_of(step) - 3:.1f} 3l6 6m0 -6l-6 6"
            drawn.append(tag("path", tag("title", f"{value} at step {step:,}"), d=cross, stroke=BAD, stroke_width=1.6))
    middle = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}{', logarithmic' if is_log else ''}"
    return _small_chart(title, drawn, (f"step {first:,}", f"step {last:,}"), middle if finite else "")


def _line_paths(curve: Curve, x_of: Callable[[int], float], y_of: Callable[[float], float]) -> tuple[str, str]:
    """Lines between neighbours, broken where a value is missing or non-finite, and dots where one stands alone."""
    runs: list[list[str]] = [[]]
    for step, value in curve:
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append(f"{x_of(step):.1f} {y_of(value):.1f}")
    lines = "".join("M" + "L".join(points) for points in runs if len(points) > 1)
    return lines, "".join(f"M{points[0]}h0" for points in runs if len(points) == 1)


def paired_bars(title: str, categories: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> Html:
    """Shares of categories: for each of them a bar for each series."""
    line = 10.0 * len(series) + 8
    room = _SMALL_WIDTH - 200
    highest = max((max(shares, default=0.0) for _, shares in series), default=0.0) or 1.0
    drawn = [tag("title", title)]
    for number, category in enumerate(categories):
        top = number * line
        drawn.append(_label(_end_of(category, 20), 130, top + line / 2 + 3, anchor="end"))
        for index, (name, shares) in enumerate(series):
            share = shares[number]
            width, y = max(room * share / highest, 1.0) if share > 0 else 0.0, top + 3 + 10.0 * index
            color = SERIES_COLORS[index if len(series) > 1 else 1]
            drawn.append(tag("rect", tag("title", name), x=138, y=y, width=width, height=8, fill=color))
            drawn.append(_label(f"{100 * share:.1f} %", 138 + width + 6, y + 7.5, size="9.5"))
    return _svg(title, max(len(categories), 1) * line + 4, *drawn, width=_SMALL_WIDTH)


def share_bar(share: float) -> Html:
    """A small bar for a share from 0 to 1, beside a number that says the same."""
    filled = max(60 * min(share, 1.0), 1.5) if share > 0 else 0.0
    return tag(
        "svg",
        tag("rect", x=0, y=0, width=60, height=8, fill=NEUTRAL, fill_opacity="0.22"),
        tag("rect", x=0, y=0, width=filled, height=8, fill=BAD),
        width=60,
        height=8,
        viewBox="0 0 60 8",
        aria_hidden="true",
    )


def _end_of(label: str, most: int = _MAX_LABEL) -> str:
    """The end of a path, which tells files of one folder apart."""
    shown = plain(label, 400)
    return shown if len(shown) <= most else f"…{shown[-most + 1 :]}"


def _label(text: str, x: float, y: float, anchor: str | None = None, size: str = "11.5") -> Html:
    return tag(
        "text", _end_of(text), x=x, y=y, text_anchor=anchor, font_size=size, font_family=_FONT, fill="currentColor"
    )


def _svg(
    title: str,
    height: float,
    *parts: Html,
    width: float = _WIDTH,
    shown: tuple[str, int] | None = None,
    class_: str | None = None,
) -> Html:
    """An image with a text alternative; ``shown`` is the width and height to which it is stretched."""
    return tag(
        "svg",
        *parts,
        role="img",
        aria_label=plain(title, 300),
        width=shown[0] if shown else width,
        height=shown[1] if shown else height,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        preserveAspectRatio="none" if shown else None,
        class_=class_,
    )
