"""``datacheck explain``: what a code finds, why that is bad, an example, and how to mend it."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["explain"]


def explain(
    codes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Codes such as DC101, or their names; all of them, a line each, unless given.", metavar="[CODE...]"
        ),
    ] = None,
) -> int:
    """Say what CODE means and what to do about it."""
    from datacheck.codes import CODES
    from datacheck.errors import UsageError, nearest_name

    if not codes:
        for code in CODES.values():
            print(f"{code.code}  {code.name:<18} {code.finds}")
        return 0
    by_name = {code.name: code for code in CODES.values()}
    for position, wanted in enumerate(codes):
        found = CODES.get(wanted.upper()) or by_name.get(wanted.lower())
        if found is None:
            hint = nearest_name(wanted.lower(), by_name) or nearest_name(wanted.upper(), CODES)
            raise UsageError(f"there is no code {wanted!r}{hint}")
        print("\n" * bool(position) + f"{found.code} {found.name} ({found.severity})")
        for title, text in (
            ("Finds", found.finds),
            ("Why", found.why),
            ("Example", found.example),
            ("Remedy", found.remedy),
        ):
            print(f"\n{title}\n  " + text.strip().replace("\n", "\n  "))
    return 0
