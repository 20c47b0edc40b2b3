"""Decorators that check the data that a function takes or returns, as pandera has them."""

from __future__ import annotations

import functools
import inspect
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from datacheck.errors import FindingsError, UsageError, nearest_name
from datacheck.jobs.scan import scan
from datacheck.reports.report import Report
from datacheck.reports.text import errors_text
from datacheck.schema.loading import SchemaLike
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE
from datacheck.storage.documents import load_schema
from datacheck.text import quantity

Function = TypeVar("Function", bound=Callable[..., Any])
#: What happens if data has errors: ``raise`` a ``FindingsError``, ``warn``, or a function that is called with the report.
OnFindings = Literal["raise", "warn"] | Callable[[Report], object]
#: Which part of what a function returns: an index, a key, or a function that gets it. None for all of it.
Part = int | str | Callable[[Any], Any] | None


def check_output(
    schema: SchemaLike = None, part: Part = None, *, on_findings: OnFindings = "raise"
) -> Callable[[Function], Function]:
    """Check what a function returns, each time. Coroutines are checked too, and each item that a generator yields.

    Args:
        schema: what the data must be, as for :func:`datacheck.scan`. It is loaded at the first call.
        part: which part of the result is the data: an index, a key, or a function that gets it; by default all of it.
        on_findings: ``raise`` a ``FindingsError`` (the default), ``warn``, or a function that is called with the report.

    >>> import numpy
    >>> @check_output()
    ... def load():
    ...     return numpy.array([1.0, numpy.nan])
    >>> load()
    Traceback (most recent call last):
    datacheck.errors.FindingsError: load() returned data with 1 error
    DC101 1 of 2 values are NaN in the array (<memory>, row 1)
    """
    check = _Check(_not_function(schema, "check_output"), on_findings)

    def decorate(function: Function) -> Function:
        subject = f"{_name(function)}() returned data"
        return _wrapped(function, lambda _: None, lambda result: check(_part_of(result, part), subject))

    return decorate


def check_input(
    schema: SchemaLike = None, argument: str | None = None, *, on_findings: OnFindings = "raise"
) -> Callable[[Function], Function]:
    """Check an argument of a function before each call.

    Args:
        schema, on_findings: as for :func:`check_output`.
        argument: the name of the argument; by default the first (of a method, the first after ``self``).
    """
    check = _Check(_not_function(schema, "check_input"), on_findings)

    def decorate(function: Function) -> Function:
        names = list(inspect.signature(function).parameters)
        if not names:
            raise UsageError(f"{_name(function)}() takes no argument that could be checked")
        if argument is not None and argument not in names:
            raise UsageError(f"{_name(function)}() has no argument {argument!r}{nearest_name(argument, names)}")
        name = argument or (names[1] if names[0] in ("self", "cls") and len(names) > 1 else names[0])
        subject = f"the argument {name!r} of {_name(function)}() is data"

        def before(arguments: Mapping[str, Any]) -> None:
            check(arguments[name], subject)

        return _wrapped(function, before, lambda _: None)

    return decorate


def check_types(function: Function | None = None, *, on_findings: OnFindings = "raise") -> Any:
    """Check the arguments and the result that are annotated with a schema: ``Annotated[pandas.DataFrame, schema]``.

    ``schema`` is a :class:`~datacheck.Schema`, a mapping, the path of a YAML file, or ``package.module:Model``. A value that
    is None is not checked. ``on_findings`` is as for :func:`check_output`.
    """
    if function is None:
        return functools.partial(check_types, on_findings=on_findings)
    if not callable(function):
        raise UsageError(f"check_types: expected a function, got {type(function).__name__}")
    checks = {
        name: _Check(schema, on_findings)
        for name, hint in typing.get_type_hints(function, include_extras=True).items()
        for schema in _schemas_of(hint)
    }
    if not checks:
        raise UsageError(
            f"{_name(function)}() has no annotation with a schema; write Annotated[pandas.DataFrame, 'schema.yaml']"
        )
    called = _name(function)

    def before(arguments: Mapping[str, Any]) -> None:
        for name, check in checks.items():
            if name != "return" and arguments[name] is not None:
                check(arguments[name], f"the argument {name!r} of {called}() is data")

    def after(result: Any) -> None:
        if "return" in checks and result is not None:
            checks["return"](result, f"{called}() returned data")

    return _wrapped(function, before, after)


def _not_function(schema: SchemaLike, name: str) -> SchemaLike:
    """The schema; raises ``UsageError`` for a function, which a decorator without parentheses was given."""
    if inspect.isroutine(schema):
        raise UsageError(f"write @{name}() with parentheses; without a schema, it checks for NaN, infinity and null")
    return schema


class _Check:
    """Checks data against a schema that is loaded when it is first needed."""

    def __init__(self, schema: SchemaLike, on_findings: OnFindings) -> None:
        if on_findings not in ("raise", "warn") and not callable(on_findings):
            raise UsageError(f"on_findings: expected 'raise', 'warn' or a function, got {on_findings!r}")
        self._schema, self._on_findings = schema, on_findings

    @functools.cached_property
    def _loaded(self) -> Schema:
        return load_schema(self._schema)

    def __call__(self, data: Any, subject: str) -> None:
        report = scan(data, self._loaded)
        if report.ok:
            return
        if callable(self._on_findings):
            self._on_findings(report)
            return
        num_errors = sum(finding.is_error for finding in report.findings)
        text = f"{subject} with {quantity(num_errors, 'error')}\n{errors_text(report.findings)}"
        if self._on_findings == "raise":
            raise FindingsError(text, report)
        warnings.warn(text, UserWarning, stacklevel=4)


def _wrapped(function: Function, before: Callable[[Mapping[str, Any]], None], after: Callable[[Any], None]) -> Function:
    """The function; its arguments go through ``before``, and what it returns or yields through ``after``."""
    signature = inspect.signature(function)

    def bind(args: Any, kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        before(bound.arguments)

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        bind(args, kwargs)
        result = await function(*args, **kwargs)
        after(result)
        return result

    def generate(*args: Any, **kwargs: Any) -> Any:
        bind(args, kwargs)
        for item in function(*args, **kwargs):
            after(item)
            yield item

    def call(*args: Any, **kwargs: Any) -> Any:
        bind(args, kwargs)
        result = function(*args, **kwargs)
        after(result)
        return result

    is_async, is_generator = inspect.iscoroutinefunction(function), inspect.isgeneratorfunction(function)
    chosen = call_async if is_async else generate if is_generator else call
    return typing.cast(Function, functools.wraps(function)(chosen))


def _schemas_of(hint: Any) -> Iterable[Any]:
    """The schemas in an annotation, also one of several alternatives."""
    if typing.get_origin(hint) is Annotated:
        return [one for one in hint.__metadata__ if _is_schema(one)][:1]
    return [schema for part in typing.get_args(hint) for schema in _schemas_of(part)][:1]


def _is_schema(value: Any) -> bool:
    if isinstance(value, str):
        return value.endswith((".yaml", ".yml")) or REFERENCE.fullmatch(value) is not None
    return isinstance(value, Schema | Mapping)


def _part_of(result: Any, part: Part) -> Any:
    if part is None:
        return result
    return part(result) if callable(part) else result[part]


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function)).rpartition("<locals>.")[2]
