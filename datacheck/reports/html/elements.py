"""HTML elements. Text is escaped unless it is :class:`Html`, so that a name from a file cannot become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from datacheck.text import plain

#: Longer names are cut.
MAX_NAME = 160

#: Control characters other than tabs and line ends, and those that change the direction of text.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_EMPTY = frozenset({"br", "line", "meta", "path", "rect", "polyline", "circle"})


class Html(str):
    """Markup that is safe as it is."""

    __slots__ = ()


class Section:
    """A part of a page: a heading and what stands below it."""

    __slots__ = ("body", "title")

    def __init__(self, title: str, *body: Html) -> None:
        self.title = title
        self.body = body


def tag(kind: str, *children: str | None, **attributes: str | float | None) -> Html:
    """An element. ``class_`` stands for ``class``, and ``_`` in a name for ``-``; None leaves an attribute or child out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if kind in _EMPTY and not children:
        return Html(f"<{kind}{written}/>" if kind not in ("br", "meta") else f"<{kind}{written}>")
    return Html(f"<{kind}{written}>{join(child for child in children if child is not None)}</{kind}>")


def join(children: Iterable[str]) -> Html:
    """Children side by side, text escaped."""
    return Html("".join(child if isinstance(child, Html) else _escaped(child, quote=False) for child in children))


def _escaped(text: str, *, quote: bool = True) -> str:
    """Text that is neither markup nor, where a terminal shows the page, a command or in another order than it is written."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], html.escape(text, quote=quote))


def _number(value: str | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def name(text: str) -> Html:
    """A name from the data: of a file, a field, a rule."""
    return tag("code", plain(text, MAX_NAME))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Iterable[int] = (),
    *,
    is_wide: bool = False,
) -> Html:
    """A table with a caption. The first cell of a row is its head; ``numbers`` are the columns aligned to the right.

    Columns without a text in any row are left out. A wide one is as wide as the page, as are those with many columns.
    """
    lines = list(rows)
    shown = [index for index in range(len(head)) if not index or any(line[index] for line in lines)]
    styles = dict.fromkeys(numbers, "n")
    titles = (tag("th", head[index], scope="col", class_=styles.get(index)) for index in shown)
    body = (
        tag(
            "tr",
            tag("th", line[0], scope="row"),
            *(tag("td", line[index], class_=styles.get(index)) for index in shown[1:]),
        )
        for line in lines
    )
    written = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
        class_="wide" if is_wide or len(shown) > 5 else None,
    )
    return tag("div", written, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(summary: str, *body: Html) -> Html:
    """What is behind a picture, closed until the reader opens it, and not printed while it is closed."""
    return tag("details", tag("summary", summary), *body, class_="fold")
