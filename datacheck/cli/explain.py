"""``datacheck explain``: what a code finds, why that is bad, an example, and a fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from datacheck.cli.help import argument

if TYPE_CHECKING:
    from datacheck.codes.code import Code

__all__ = ["explain"]


def explain(
    codes: Annotated[
        list[str] | None,
        argument(
            "CODE",
            "Codes such as DC101, or their names. A prefix such as DC1 lists its codes.",
            default="list all codes",
        ),
    ] = None,
) -> int:
    """Explain what a code finds, why it is bad, and how to fix it.

    Example: datacheck explain DC101
    """
    from datacheck.codes import CODES, codes_with_prefix
    from datacheck.errors import UsageError, nearest_name

    if not codes:
        print("\n".join(map(_line, CODES.values())))
        return 0
    by_name = {code.name: code for code in CODES.values()}
    for position, wanted in enumerate(codes):
        found = CODES.get(wanted.upper()) or by_name.get(wanted.lower())
        if found is None:
            selected = codes_with_prefix(wanted.upper()) if wanted else ()
            if selected:
                print("\n" * bool(position) + "\n".join(_line(CODES[number]) for number in sorted(selected)))
                continue
            hint = nearest_name(wanted.lower(), by_name) or nearest_name(wanted.upper(), CODES)
            hint = hint or "; 'datacheck explain' lists all codes"
            raise UsageError(f"unknown code {wanted!r}{hint}")
        print("\n" * bool(position) + f"{found.code} {found.name} ({found.severity})")
        for title, text in (
            ("Finds", found.finds),
            ("Why", found.why),
            ("Example", found.example),
            ("Suggested fix", found.remedy),
        ):
            print(f"\n{title}\n  " + text.strip().replace("\n", "\n  "))
    return 0


def _line(code: Code) -> str:
    return f"{code.code}  {code.name:<18} {code.finds}"
