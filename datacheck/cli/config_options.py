"""The options of a command line that are settings of the gate, for every command that has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from datacheck.cli import options

if TYPE_CHECKING:
    from datacheck.cli.options import ColorChoice
    from datacheck.gate.configuration import Configuration

__all__ = ["configured"]

Command = Callable[..., int]

#: Option -> how it is declared, and what it is where it is not given; in the order of the help.
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "schema": (options.Schema, None),
    "select": (options.Select, None),
    "ignore": (options.Ignore, None),
    "severity": (options.SeverityOf, None),
    "exclude": (options.Exclude, None),
    "baseline": (options.Baseline, None),
    "no_baseline": (options.NoBaseline, False),
    "cache": (options.CacheSwitch, None),
    "cache_dir": (options.CacheDir, None),
    "color": (options.Color, None),
    "workers": (options.Workers, None),
    "config": (options.Config, None),
}


def configured(*, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Gives a command these options, all but some, and calls it with the ``configuration`` that they come to."""
    names = [name for name in _OPTIONS if name not in without]

    def decorate(command: Command) -> Command:
        # The class is there for type checkers alone: it is loaded when a command is called.
        hints = get_type_hints(command, localns={"Configuration": object}, include_extras=True)
        own = [
            part.replace(annotation=hints[part.name])
            for part in inspect.signature(command).parameters.values()
            if part.name != "configuration"
        ]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=declared)
            for name, (declared, default) in _OPTIONS.items()
            if name in names
        ]

        @functools.wraps(command)
        def with_configuration(*args: Any, **kwargs: Any) -> int:
            given = {name: kwargs.pop(name) for name in names}
            return command(*args, configuration=_configuration_of(**given), **kwargs)

        # What typer reads: the parameters, and their types.
        signature = inspect.Signature([*own, *shared], return_annotation=int)
        with_configuration.__signature__ = signature  # type: ignore[attr-defined]
        with_configuration.__annotations__ = {name: part.annotation for name, part in signature.parameters.items()}
        return with_configuration

    return decorate


def _configuration_of(
    *,
    schema: str | None,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    severity: Sequence[str] | None,
    config: str | None,
    exclude: Sequence[str] | None = None,
    baseline: str | None = None,
    no_baseline: bool = False,
    cache: bool | None = None,
    cache_dir: str | None = None,
    color: ColorChoice | None = None,
    workers: int | None = None,
) -> Configuration:
    """The configuration that holds for a command; raises ``ConfigurationError`` and ``UsageError``."""
    import os
    import sys

    from datacheck.errors import UsageError
    from datacheck.gate.configuration import configure
    from datacheck.gate.environment import parse_pairs, split_list, unknown_variables

    for problem in unknown_variables(os.environ):
        print(f"datacheck: {problem}", file=sys.stderr)

    if baseline is not None and no_baseline:
        raise UsageError("--baseline and --no-baseline contradict each other; give one of them")
    given = {
        "schema": schema,
        "select": [code for text in select for code in split_list(text)] if select else None,
        "ignore": [code for text in ignore for code in split_list(text)] if ignore else None,
        "severity": parse_pairs([pair for text in severity for pair in split_list(text)], "--severity")
        if severity
        else None,
        "exclude": list(exclude) if exclude else None,
        "baseline": False if no_baseline else baseline,
        "cache": cache,
        "cache-dir": cache_dir,
        "color": None if color is None else color.value,
        "workers": workers,
    }
    named = {"cache": "--no-cache" if cache is False else "--cache"}
    if no_baseline:
        named["baseline"] = "--no-baseline"
    return configure(given, config=config, place_of=lambda key: named.get(key, f"--{key}"))
