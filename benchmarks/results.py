"""What a benchmark found: timings, and claims that are held against a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.timing import Timing

__all__ = ["Claim", "Section", "render_section", "render_summary", "section_record", "speed_ratio", "time_ratio"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One measured number and its target; ``best`` is the same from the best rounds instead of the medians.

    ``target`` is None for a number that is only reported. ``at_least`` says which side of the target is good.
    """

    what: str
    measured: float
    target: float | None = None
    at_least: bool = False
    unit: str = "x"
    best: float | None = None

    @property
    def is_met(self) -> bool | None:
        if self.target is None:
            return None
        return self.measured >= self.target if self.at_least else self.measured <= self.target


@dataclass(slots=True)
class Section:
    """The results of one benchmark. ``notes`` say what exactly is timed."""

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def add_timings(self, timings: Iterable[Timing]) -> None:
        self.timings.extend(timings)


def speed_ratio(what: str, ours: Timing, peer: Timing, target: float | None = None) -> Claim:
    """How many times as fast as the peer: at least ``target``."""
    return Claim(what, peer.median / ours.median, target, True, "x the rate", peer.best / ours.best)


def time_ratio(what: str, ours: Timing, peer: Timing, target: float | None = None) -> Claim:
    """How many times the peer's time: at most ``target``."""
    return Claim(what, ours.median / peer.median, target, False, "x the time", ours.best / peer.best)


def render_section(section: Section) -> str:
    """A section as text."""
    lines = [f"== {section.name}: {section.title}", *(f"   {note}" for note in section.notes)]
    if section.timings:
        width = max(len(timing.name) for timing in section.timings)
        lines += ["", *(_timing_line(timing, width) for timing in section.timings)]
    if section.claims:
        lines += ["", *_claim_lines(section.claims)]
    return "\n".join([*lines, ""])


def render_summary(sections: Iterable[Section]) -> str:
    """Every claim that has a target, and how many are met."""
    claims = [claim for section in sections for claim in section.claims if claim.target is not None]
    if not claims:
        return ""
    met = sum(bool(claim.is_met) for claim in claims)
    return "\n".join(["== summary", *_claim_lines(claims), f"   {met} of {len(claims)} targets met", ""])


def section_record(section: Section) -> dict[str, Any]:
    """A section as plain values for JSON."""
    return {
        "name": section.name,
        "title": section.title,
        "notes": section.notes,
        "timings": [
            {
                "name": timing.name,
                "median_seconds": timing.median,
                "min_seconds": timing.best,
                "seconds": list(timing.seconds),
                "num_bytes": timing.num_bytes,
                "num_rows": timing.num_rows,
            }
            for timing in section.timings
        ],
        "claims": [
            {
                "what": claim.what,
                "measured": claim.measured,
                "measured_best": claim.best,
                "unit": claim.unit,
                "target": claim.target,
                "at_least": claim.at_least,
                "is_met": claim.is_met,
            }
            for claim in section.claims
        ],
    }


def _timing_line(timing: Timing, width: int) -> str:
    line = f"   {timing.name:<{width}}  median {_seconds(timing.median)}  min {_seconds(timing.best)}"
    if timing.num_bytes is not None:
        line += f"  {timing.num_bytes / timing.median / 1e9:6.2f} GB/s"
    if timing.num_rows is not None:
        line += f"  {timing.num_rows / timing.median / 1e6:6.2f} M rows/s"
    return f"{line}  ({len(timing.seconds)} rounds)"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:8.1f} ms" if seconds < 10 else f"{seconds:8.2f} s "


def _claim_lines(claims: Iterable[Claim]) -> list[str]:
    claims = list(claims)
    width = max(len(claim.what) for claim in claims)
    return [_claim_line(claim, width) for claim in claims]


def _claim_line(claim: Claim, width: int) -> str:
    best = "" if claim.best is None else f" ({_number(claim.best)} by best rounds)"
    line = f"   {claim.what:<{width}}  {_number(claim.measured):>7} {claim.unit}{best}"
    if claim.target is None:
        return line
    word = "at least" if claim.at_least else "at most"
    return f"{line}; {word} {claim.target:g}: {'met' if claim.is_met else 'NOT MET'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
