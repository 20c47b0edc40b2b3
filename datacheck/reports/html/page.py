"""The page: verdict and numbers at the top, sections below; the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Sequence

from datacheck._version import __version__
from datacheck.reports.html.elements import Html, Section, tag
from datacheck.reports.html.style import CSS

#: Browsers open such a page at once, and mail servers let it pass. Sections that would go beyond it are left out.
MAX_BYTES = 900_000
_RESERVED_BYTES = 4_000
#: Of a frame in a notebook, in pixels: less than what the style sheet takes for low.
_FRAME_HEIGHT = 640


def in_frame(page: str) -> Html:
    """A page in a frame, for notebooks: nothing in it can run or reach what is around it.

    The frame is higher for a longer page, and the reader can pull it longer. Below ``_FRAME_HEIGHT`` the page is compact.
    """
    height = min(_FRAME_HEIGHT, 400 + 24 * page.count("<tr>"))
    return tag(
        "iframe",
        srcdoc=page,
        sandbox="",
        width="100%",
        height=height,
        title="datacheck report",
        frameborder=0,
        style="resize:vertical",
    )


#: What the icon of a verdict shows in its circle: a tick, an exclamation mark or a cross.
_ICONS = {"good": "M7 12.5l3.5 3.5L17 9", "warn": "M12 6.5v7M12 16.9v.3", "bad": "M8.5 8.5l7 7m0-7l-7 7"}


def _icon(style: str) -> Html:
    parts = tag("circle", cx=12, cy=12, r=10), tag("path", d=_ICONS[style], stroke_linecap="round")
    lines = tag("g", *parts, fill="none", stroke="currentColor", stroke_width=2)
    return tag("svg", lines, width=24, height=24, viewBox="0 0 24 24", aria_hidden="true")


def document(
    title: str, verdict: str, style: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]
) -> str:
    """A whole page. ``style`` of the verdict is ``good``, ``warn`` or ``bad``."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}: {verdict}"),
        tag("style", Html(CSS)),
    )
    header = tag(
        "header",
        tag("h1", title),
        tag("p", _icon(style), tag("span", verdict), class_=f"verdict {style}"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts"),
    )
    footer = tag(
        "footer",
        f"datacheck {__version__}. Rows are counted from 0. ",
        tag("code", "datacheck explain CODE"),
        " says more about a code.",
    )
    left = MAX_BYTES - _RESERVED_BYTES - sum(len(part.encode()) for part in (head, header, footer))
    shown: list[Html] = []
    for section in sections:
        written = tag("section", tag("h2", section.title), *section.body)
        left -= len(written.encode())
        if left < 0:
            note = "Left out, so that the page stays small; --format jsonl has everything."
            written = tag("section", tag("h2", section.title), tag("p", note, class_="soft"))
            left += len(written.encode())
        shown.append(written)
    body = tag("body", header, tag("main", *shown), footer)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
