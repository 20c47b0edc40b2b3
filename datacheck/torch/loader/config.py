"""The settings of a SafeDataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

from datacheck.errors import UsageError, nearest_name

__all__ = ["OnBad", "Policy", "SafeConfig", "parse_policies"]

Policy: TypeAlias = Literal["replace", "raise", "skip", "repair"]
OnBad: TypeAlias = Policy | Sequence[Policy]


def parse_policies(on_bad: OnBad) -> tuple[Policy, ...]:
    """One policy, or ``("repair", other)``; raises ``UsageError`` for anything else."""
    named: tuple[Any, ...] = tuple(on_bad) if isinstance(on_bad, list | tuple) else (on_bad,)
    known = get_args(Policy)
    for name in named:
        if name not in known:
            raise UsageError(
                f"on_bad: unknown policy {name!r}{nearest_name(str(name), known)}; known policies: {', '.join(known)}"
            )
    if named == ("repair",):
        return ("repair", "replace")
    if len(named) == 1 or (len(named) == 2 and named[0] == "repair" and named[1] != "repair"):
        return named
    raise UsageError(
        f"on_bad: expected one policy or ('repair', other), got {named}; the second one is for samples that cannot be repaired"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeConfig:
    """The settings of a :class:`SafeDataset`.

    ``policy`` is for bad samples that are not repaired; ``repairs`` says whether to try.
    """

    policy: Policy
    repairs: bool
    max_bad_fraction: float
    max_attempts: int
    retries: int
    backoff: float
    retry_on: tuple[type[BaseException], ...]
    seed: int
    replace_from: Sequence[int] | None
    transform: Callable[[Any], Any] | None

    def __post_init__(self) -> None:
        # Otherwise a mistake would only show in a worker, at the first bad sample.
        if not (_is_number(self.max_bad_fraction) and 0 <= self.max_bad_fraction <= 1):
            raise UsageError(f"max_bad_fraction must be from 0 to 1, got {self.max_bad_fraction!r}")
        if not (_is_integer(self.max_attempts) and self.max_attempts >= 1):
            raise UsageError(f"max_attempts must be an integer >= 1, got {self.max_attempts!r}")
        if not (_is_integer(self.retries) and self.retries >= 0):
            raise UsageError(f"retries must be an integer >= 0, got {self.retries!r}")
        if not (_is_number(self.backoff) and self.backoff >= 0):
            raise UsageError(f"backoff must be seconds >= 0, got {self.backoff!r}")
        if not _is_integer(self.seed):
            raise UsageError(f"seed must be an integer, got {self.seed!r}")
        if not (isinstance(self.retry_on, tuple) and all(_is_exception(kind) for kind in self.retry_on)):
            raise UsageError(f"retry_on must be an exception class or a tuple of them, got {self.retry_on!r}")
        if self.transform is not None and not callable(self.transform):
            raise UsageError(f"transform must be a function of a sample, got {type(self.transform).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
