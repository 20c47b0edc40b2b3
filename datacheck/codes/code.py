"""What a code is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One code.

    ``message`` is the line that a finding prints, with ``{violations}``, ``{checked}``, ``{field}``, ``{rule}`` and
    ``{detail}`` to be filled in; ``message_of_values`` is that of a finding about single values, where there are two
    kinds. ``finds``, ``why``, ``example`` and ``remedy`` are what ``datacheck explain`` prints;
    an indented line in an example is what is printed, and in a remedy is YAML to copy.
    """

    code: str
    name: str
    message: str
    finds: str
    why: str
    example: str
    remedy: str
    severity: str = "error"
    message_of_values: str = ""
