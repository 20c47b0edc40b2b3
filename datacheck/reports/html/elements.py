"""HTML elements. Text is escaped unless it is :class:`Html`, so that a name from a file cannot become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from datacheck.text import plain

__all__ = ["MAX_NAME", "Html", "Section", "join", "name", "table", "tag", "text_cell"]

#: Longer names are cut.
MAX_NAME = 160

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
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if kind in _EMPTY and not children:
        return Html(f"<{kind}{written}/>" if kind not in ("br", "meta") else f"<{kind}{written}>")
    return Html(f"<{kind}{written}>{join(child for child in children if child is not None)}</{kind}>")


def join(children: Iterable[str]) -> Html:
    """Children side by side, text escaped."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child, quote=False) for child in children))


def _number(value: str | float) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def name(text: str) -> Html:
    """A name from the data: of a file, a field, a rule."""
    return tag("code", plain(text, MAX_NAME))


def text_cell(text: str, *, is_number: bool = False, is_head: bool = False) -> Html:
    """A table cell."""
    if is_head:
        return tag("th", text, scope="row")
    return tag("td", text, class_="n" if is_number else None)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> Html:
    """A table with a caption. The first cell of a row is its head; ``numbers`` are the columns aligned to the right."""
    right = frozenset(numbers)
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag(
                "thead",
                tag(
                    "tr",
                    *(
                        tag("th", title, scope="col", class_="n" if index in right else None)
                        for index, title in enumerate(head)
                    ),
                ),
            ),
            tag(
                "tbody",
                *(
                    tag(
                        "tr",
                        *(
                            text_cell(cell, is_number=index in right, is_head=index == 0)
                            for index, cell in enumerate(row)
                        ),
                    )
                    for row in rows
                ),
            ),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )
