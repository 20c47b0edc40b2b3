"""Charts as inline SVG with presentation attributes only, each with a text alternative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datacheck.reports.html.elements import Html, tag
from datacheck.reports.html.style import BAD, SERIES_COLORS
from datacheck.text import plain

__all__ = ["HeatRow", "heat_map", "histogram", "legend", "paired_bars", "share_bar", "stacked_bar"]

_WIDTH = 980.0
_LABEL_WIDTH = 240.0
_SMALL_WIDTH = 470.0
_SMALL_HEIGHT = 84.0
_END_WIDTH = 22.0
_ROW_HEIGHT = 18.0
_FONT = "system-ui, sans-serif"
_STEPS = 5
_MAX_LABEL = 34


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A line of a heat map: its label, and the count and tooltip of each cell; no cell where the count is 0."""

    label: str
    cells: Sequence[tuple[int, str]]


def heat_map(title: str, rows: Sequence[HeatRow], axis: tuple[str, str]) -> Html:
    """Counts by place: darker is more. ``axis`` labels the first and the last column."""
    num_columns = max(len(row.cells) for row in rows)
    width = min((_WIDTH - _LABEL_WIDTH) / num_columns, 40.0)
    most = max(count for row in rows for count, _ in row.cells)
    height = len(rows) * _ROW_HEIGHT + 20
    parts: list[Html] = [tag("title", title)]
    for index, row in enumerate(rows):
        top = index * _ROW_HEIGHT
        parts.append(_label(_end_of(row.label), _LABEL_WIDTH - 10, top + 13, anchor="end"))
        parts.append(
            tag(
                "rect",
                x=_LABEL_WIDTH,
                y=top + 1,
                width=width * len(row.cells),
                height=_ROW_HEIGHT - 3,
                fill="#8891a0",
                fill_opacity="0.14",
            )
        )
        parts += [
            tag(
                "rect",
                tag("title", tooltip),
                x=_LABEL_WIDTH + column * width,
                y=top + 1,
                width=max(width - 0.6, 0.8),
                height=_ROW_HEIGHT - 3,
                fill=BAD,
                fill_opacity=_opacity(count, most),
            )
            for column, (count, tooltip) in enumerate(row.cells)
            if count
        ]
    base = len(rows) * _ROW_HEIGHT + 14
    parts.append(_label(axis[0], _LABEL_WIDTH, base))
    parts.append(_label(axis[1], _LABEL_WIDTH + width * num_columns, base, anchor="end"))
    return _svg(title, height, *parts)


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
            width = max(_WIDTH * count / total, 2.0)
            drawn.append(
                tag("rect", tag("title", f"{name}: {count:,}"), x=left, y=0, width=width, height=16, fill=color)
            )
            left += width
    return _svg(title, 18, *drawn, width=max(left, _WIDTH))


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
    """Shares by bin: the first of two series as bars, the second as an outline over them.

    A series is a name, the share of each bin, and the shares below and above all bins, which stand apart at the ends.
    """
    num_bins = len(series[0][1])
    step = (_SMALL_WIDTH - 2 * _END_WIDTH) / num_bins
    highest = max((max(*shares, below, above) for _, shares, below, above in series), default=0.0) or 1.0
    drawn = [tag("title", title)]
    for index, (name, shares, below, above) in enumerate(series):
        bars = [(0.0, _END_WIDTH - 5, below)]
        bars += [(_END_WIDTH + number * step, step, share) for number, share in enumerate(shares)]
        bars.append((_SMALL_WIDTH - _END_WIDTH + 5, _END_WIDTH - 5, above))
        is_outline = index > 0
        drawn.append(
            tag(
                "path",
                tag("title", name),
                d=_bars_path(bars, highest),
                fill="none" if is_outline else SERIES_COLORS[index],
                fill_opacity=None if is_outline else "0.55",
                stroke=SERIES_COLORS[index] if is_outline else None,
                stroke_width=1.3 if is_outline else None,
            )
        )
    drawn.append(
        tag("line", x1=0, y1=_SMALL_HEIGHT, x2=_SMALL_WIDTH, y2=_SMALL_HEIGHT, stroke="#8891a0", stroke_width=1)
    )
    drawn.append(_label(axis[0], _END_WIDTH, _SMALL_HEIGHT + 14))
    drawn.append(_label(axis[1], _SMALL_WIDTH - _END_WIDTH, _SMALL_HEIGHT + 14, anchor="end"))
    return _svg(title, _SMALL_HEIGHT + 18, *drawn, width=_SMALL_WIDTH)


def _bars_path(bars: Sequence[tuple[float, float, float]], highest: float) -> str:
    parts = []
    for left, width, share in bars:
        if share > 0:
            height = max(share / highest * (_SMALL_HEIGHT - 4), 2.0)
            top = _SMALL_HEIGHT - height
            parts.append(f"M{left:.1f} {_SMALL_HEIGHT:.0f}V{top:.1f}h{width:.1f}V{_SMALL_HEIGHT:.0f}")
    return "".join(parts) or "M0 0"


def paired_bars(title: str, categories: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> Html:
    """Shares of categories: for each of them a bar for each series."""
    line = 9.0 * len(series) + 7
    highest = max((max(shares, default=0.0) for _, shares in series), default=0.0) or 1.0
    drawn = [tag("title", title)]
    for number, category in enumerate(categories):
        top = number * line
        drawn.append(_label(_end_of(category), 130, top + line / 2 + 3, anchor="end"))
        for index, (name, shares) in enumerate(series):
            share = shares[number]
            if share > 0:
                drawn.append(
                    tag(
                        "rect",
                        tag("title", f"{name}: {100 * share:.2f} %"),
                        x=138,
                        y=top + 2 + 9.0 * index,
                        width=max((_SMALL_WIDTH - 145) * share / highest, 1.0),
                        height=7.5,
                        fill=SERIES_COLORS[index],
                    )
                )
    return _svg(title, max(len(categories), 1) * line + 4, *drawn, width=_SMALL_WIDTH)


def share_bar(share: float) -> Html:
    """A small bar for a share from 0 to 1, beside a number that says the same."""
    filled = max(60 * min(share, 1.0), 1.5) if share > 0 else 0.0
    return tag(
        "svg",
        tag("rect", x=0, y=0, width=60, height=8, fill="#8891a0", fill_opacity="0.22"),
        tag("rect", x=0, y=0, width=filled, height=8, fill=BAD),
        width=60,
        height=8,
        viewBox="0 0 60 8",
        aria_hidden="true",
    )


def _end_of(label: str) -> str:
    """The end of a path, which tells files of one folder apart."""
    shown = plain(label, 400)
    return shown if len(shown) <= _MAX_LABEL else f"…{shown[-_MAX_LABEL + 1 :]}"


def _label(text: str, x: float, y: float, anchor: str | None = None) -> Html:
    shown = plain(text, 400)
    if len(shown) > _MAX_LABEL:
        shown = f"…{shown[-_MAX_LABEL + 1 :]}"
    return tag("text", text, x=x, y=y, text_anchor=anchor, font_size="11.5", font_family=_FONT, fill="currentColor")


def _svg(title: str, height: float, *parts: Html, width: float = _WIDTH) -> Html:
    return tag(
        "svg",
        *parts,
        role="img",
        aria_label=plain(title, 300),
        width=width,
        height=height,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
    )
