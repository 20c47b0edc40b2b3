"""Options and arguments as the signature of a command declares them: ``Annotated[type, option(...)]``."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a command says of a parameter beside its type: an option of ``group`` with these names, or an argument."""

    text: str
    names: tuple[str, ...] = ()
    group: str = "Options"
    metavar: str | None = None
    default: str | bool = False
    min_value: int | None = None


def option(
    group: str,
    text: str,
    *names: str,
    metavar: str | None = None,
    default: str | bool = False,
    min_value: int | None = None,
) -> Any:
    """Declare an option with the help ``text``. ``default`` describes the default value, or True shows the value itself.

    Without ``names`` it is called as its parameter.
    """
    return Declaration(text, names, group, metavar, default, min_value)


def argument(metavar: str, text: str, *, default: str | bool = False) -> Any:
    """Declare an argument with the help ``text``. ``default`` describes the default value."""
    return Declaration(text, group="Arguments", metavar=metavar, default=default)


class Option(click.Option):
    """An option that belongs to a group of the help."""

    group = "Options"


class Argument(click.Argument):
    """An argument with a help text."""

    group = "Arguments"
    help = ""
    default_text: str | bool = False

    def make_metavar(self, ctx: click.Context) -> str:  # noqa: ARG002
        name = str(self.metavar) if self.required else f"[{self.metavar}]"
        return f"{name}..." if self.nargs != 1 else name

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:  # noqa: ARG002
        note = "  [required]" if self.required else f"  [default: ({self.default_text})]" if self.default_text else ""
        return str(self.metavar), f"{self.help}{note}"

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002
        return f"'{self.metavar}'"


class _OneOf(click.ParamType):  # type: ignore[type-arg]
    """A member of an enumeration, by its value rather than by its name."""

    name = "choice"

    def __init__(self, members: type[Enum]) -> None:
        self._members = {str(one.value): one for one in members}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Enum:
        text = str(getattr(value, "value", value))
        if text not in self._members:
            self.fail(f"{text!r} is not one of {', '.join(map(repr, self._members))}.", param, ctx)
        return self._members[text]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        return [CompletionItem(text) for text in self._members if text.startswith(incomplete)]


class _AtLeast(click.IntRange):
    name = "integer"


def parameters_of(command: Callable[..., Any]) -> list[click.Parameter]:
    """The parameters that the signature of a command declares, except its context ``ctx``."""
    hints = get_type_hints(command, include_extras=True, localns={"Configuration": object})
    parts = inspect.signature(command).parameters.values()
    return [_parameter(part.name, hints[part.name], part.default) for part in parts if part.name != "ctx"]


def _parameter(name: str, hint: Any, default: Any) -> click.Parameter:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"the parameter {name!r} of a command declares no option or argument")
    kind, declared = get_args(hint)
    if get_origin(kind) is types.UnionType:
        kind = next(one for one in get_args(kind) if one is not type(None))
    is_list = get_origin(kind) is list
    item = get_args(kind)[0] if is_list else kind
    is_required = default is inspect.Parameter.empty
    settings: dict[str, Any] = {
        "type": _type_of(item, declared),
        "metavar": declared.metavar,
        "required": is_required,
        "callback": functools.partial(_list_or_default, None if is_required else default) if is_list else None,
        "shell_complete": _complete_code if declared.metavar == "CODE" else None,
    }
    if not is_required and not is_list:
        settings["default"] = default
    if declared.group == "Arguments":
        made = Argument([name], nargs=-1 if is_list else 1, **settings)
        made.help, made.default_text = declared.text, declared.default
        return made
    names = declared.names or (f"--{name.replace('_', '-')}",)
    chosen = Option(
        [name, *names],
        # False would let an option be given without its value.
        is_flag=True if kind is bool else None,
        multiple=is_list,
        help=declared.text,
        show_default=declared.default,
        **settings,
    )
    chosen.group = declared.group
    return chosen


def _type_of(kind: Any, declared: Declaration) -> click.ParamType[Any]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _OneOf(kind)
    if kind is int and declared.min_value is not None:
        return _AtLeast(min=declared.min_value)
    if kind is Path:
        return click.Path(path_type=Path)
    return {str: click.STRING, int: click.INT, float: click.FLOAT, bool: click.BOOL}[kind]


def _list_or_default(default: Any, _: click.Context, __: click.Parameter, value: Any) -> Any:
    return list(value) if value else default


def _complete_code(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The codes that begin as what is typed, by number or by name, with the other for shells that show it."""
    from datacheck.codes import CODES

    codes = CODES.values()
    numbers = [CompletionItem(code.code, help=code.name) for code in codes if code.code.startswith(incomplete.upper())]
    names = [
        CompletionItem(code.name, help=code.code) for code in codes if incomplete and code.name.startswith(incomplete)
    ]
    return numbers or names
