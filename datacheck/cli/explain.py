"""``datacheck explain``: what a code finds, why that is bad, an example, and a fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from datacheck.cli.help import INPUT
from datacheck.cli.parameters import argument, option

if TYPE_CHECKING:
    from datacheck.codes.code import Code


def explain(
    codes: Annotated[
        list[str] | None,
        argument(
            "CODE",
            "Codes such as DC101, or their names. A prefix such as DC1 lists its codes.",
            default="list all codes",
        ),
    ] = None,
    *,
    schema: Annotated[
        str | None,
        option(
            INPUT, "Schema that names checks of your own, to explain their codes.", "--schema", "-s", metavar="SCHEMA"
        ),
    ] = None,
) -> int:
    """Explain what a code finds, why it is bad, and how to fix it.

    Example: datacheck explain DC101
    """
    from datacheck.codes import CODES, OWN_CODE, code_named, codes_with_prefix, nearest_code
    from datacheck.errors import UsageError
    from datacheck.text import plain

    if schema is not None:
        from datacheck.checks.own_checks import register_own_checks
        from datacheck.storage.documents import load_schema

        register_own_checks(load_schema(schema))
    if not codes:
        print("\n".join(map(_line, CODES.values())))
        return 0
    for position, wanted in enumerate(codes):
        found = CODES.get(code_named(wanted))
        if found is None:
            selected = codes_with_prefix(wanted.upper()) if wanted else ()
            if selected:
                print("\n" * bool(position) + "\n".join(_line(CODES[number]) for number in sorted(selected)))
                continue
            own = wanted.upper()
            if OWN_CODE.fullmatch(own) and schema is None:
                hint = f"name the schema that has it: datacheck explain {own} --schema schema.yaml"
                raise UsageError(f"{own} is the code of a check of your own; {hint}")
            if OWN_CODE.fullmatch(own):
                raise UsageError(f"the schema {plain(schema or '')} names no check with the code {own}")
            hint = nearest_code(wanted) or "; 'datacheck explain' lists all codes"
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
