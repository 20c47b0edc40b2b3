"""A diagnosis: the operation, line, layer and samples behind a non-finite loss or gradient.

Plain values, so that a report can be read where torch is not installed.
"""

from __future__ import annotations

import json
import linecache
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from datacheck.errors import DatacheckError
from datacheck.findings import Finding
from datacheck.text import count, finite_json, ordinal_list, plain
from datacheck.torch.diagnosis.fixes.advice import ADVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


#: Where a bad value occurred first, in the order of a training step.
PHASES = ("input", "parameter", "buffer", "forward", "loss", "backward", "optimizer")

#: The code of a diagnosis by its phase. Divergence (DC408) and faults that do not repeat (DC409) have their own.
PHASE_CODES: dict[str, str] = {
    "loss": "DC401",
    "forward": "DC402",
    "backward": "DC403",
    "parameter": "DC404",
    "buffer": "DC405",
    "optimizer": "DC406",
    "input": "DC407",
}

#: The stable ids of causes.
CAUSES = tuple(sorted({*ADVICE, "not-reproducible", "unknown"}))

#: How many links of a chain are printed: its first and its last ones.
SHOWN_LINKS = 8
#: How many samples are printed.
SHOWN_SAMPLES = 12


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One step on the propagation path from the origin to the loss.

    ``op`` is the operation (``aten.log.default``), or what the values were before any operation (``input 'x'``).
    ``num_bad`` of ``num_values`` values of its output are non-finite.
    """

    op: str
    phase: str
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None
    num_bad: int = 0
    num_values: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The link as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ChainLink:
        """The link that :meth:`to_dict` wrote."""
        return cls(**{one.name: record[one.name] for one in fields(cls)})

    def parts(self) -> list[str]:
        """Phase, operation, module, place, source line (empty where the file is gone) and number of non-finite values."""
        source = linecache.getline(self.filename, self.lineno).strip() if self.filename and self.lineno else ""
        place = "" if self.filename is None else f"{plain(_tail(self.filename), 60)}:{self.lineno}"
        counted = f"{count(self.num_bad)} of {count(self.num_values)}" if self.num_values else ""
        return [self.phase, plain(self.op, 60), plain(self.module or "", 60), place, plain(source, 110), counted]

    def __str__(self) -> str:
        phase, op, module, place, _, counted = self.parts()
        shown = "  ".join(part for part in (op, f"[{module}]" if module else "", place, counted) if part)
        return f"{phase:<9} {shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What went wrong in a training step, where, and how to fix it.

    Attributes:
        code: ``DC4xx``.
        phase: one of :data:`PHASES`.
        cause: one of :data:`CAUSES`.
        explanation: what happened, with the numbers.
        remedy: the suggested fix, as code where code helps.
        remedy_verified: whether the step was replayed with the fix in it, and was finite and otherwise the same.
        remedy_check: what is known of the fix: the loss with it, or why it is not verified.
        module: the qualified name of the module in which it happened.
        op: the operation, such as ``aten.log.default``; for a fault in the backward pass, the forward operation.
        filename, lineno, source: the line of the user's code; for a fault in the backward pass, the forward line.
        field: the path in the batch of the values that caused it.
        samples: the positions in the batch of the samples that caused it; empty where they are not known exactly.
        origins: the dataset index, file and row of each sample, where the batch carries them.
        chain: the propagation path, from the origin to the loss or the gradient.
        step: the number of the training step, where a guard counted it.
    """

    code: str
    phase: str
    cause: str
    explanation: str
    remedy: str = ""
    module: str | None = None
    op: str | None = None
    filename: str | None = None
    lineno: int | None = None
    source: str | None = None
    field: str | None = None
    samples: tuple[int, ...] = ()
    origins: tuple[Mapping[str, Any], ...] = ()
    chain: tuple[ChainLink, ...] = ()
    step: int | None = None
    remedy_verified: bool = False
    remedy_check: str = ""

    def __post_init__(self) -> None:
        # Slotted dataclasses are pickled by their fields, and tuples keep the value hashable in all but origins.
        for name in ("samples", "origins", "chain"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def at_step(self, step: int) -> Diagnosis:
        """The same diagnosis with the number of its training step."""
        return replace(self, step=step)

    @property
    def headline(self) -> str:
        """The diagnosis in one line: code, cause, phase, operation and place."""
        place = f" at {self._location()}" if self.filename else ""
        where = f" in {plain(self.module, 80)}" if self.module else ""
        operation = f" in {plain(self.op, 60)}" if self.op else ""
        return f"{self.code} {self.cause} ({self.phase}){operation}{where}{place}"

    def _location(self) -> str:
        return f"{plain(_tail(self.filename or ''), 80)}:{self.lineno}"

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain JSON values."""
        record: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        record["samples"] = list(self.samples)
        record["origins"] = [dict(origin) for origin in self.origins]
        record["chain"] = [link.to_dict() for link in self.chain]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Diagnosis:
        """The diagnosis that :meth:`to_dict` wrote."""
        return cls(
            **{name: record[name] for name in _PLAIN_FIELDS if name in record},
            samples=tuple(record["samples"]),
            origins=tuple(record["origins"]),
            chain=tuple(ChainLink.from_dict(link) for link in record["chain"]),
        )

    def to_json(self, indent: int | None = 2) -> str:
        """The diagnosis as JSON; control characters in names come out as escapes, and numbers that JSON lacks as text."""
        return json.dumps(finite_json(self.to_dict()), indent=indent, default=str, allow_nan=False)

    def to_finding(self, uri: str | None = None) -> Finding:
        """The diagnosis as a finding, for the reports that jobs, loader and guard share."""
        bad = self.chain[0].num_bad if self.chain else 0
        checked = self.chain[0].num_values if self.chain else 0
        place = self._location() if self.filename else "training step" if self.step is None else f"step {self.step}"
        return Finding(
            self.code,
            place if uri is None else uri,
            field=self.field or self.module,
            num_violations=max(bad, 1),
            num_checked=max(checked, 1),
            rule=self.cause,
            detail="; ".join(self.explanation.splitlines()),
        )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """The diagnosis in a notebook."""
        from datacheck.reports.html.elements import tag

        head, *lines = self._lines()
        return tag("div", tag("b", head), tag("pre", "\n".join(lines)))

    def parts(self) -> dict[str, Any]:
        """The diagnosis in texts, for a page, with the source line of each link of the path."""
        check = f"{'verified' if self.remedy_verified else 'not verified'}: {self.remedy_check}"
        return {
            "step": self.step,
            "headline": self.headline,
            "source": f"{self.lineno} | {plain(self.source.strip(), 110)}" if self.source else "",
            "notes": list(self._notes()),
            "path": [link.parts() for link in self.chain],
            "fix": self.remedy,
            "check": plain(check, 200) if self.remedy_check else "",
        }

    def _notes(self) -> Iterator[str]:
        yield from (plain(line, 400) for line in self.explanation.splitlines())
        if self.field is not None:
            yield f"field: {plain(self.field)}"
        if self.samples:
            shown = self.samples[:SHOWN_SAMPLES]
            yield f"batch: {ordinal_list('sample', shown, len(shown) < len(self.samples))}"
        yield from (f"origin: {_origin(origin)}" for origin in self.origins[:3])
        if len(self.origins) > 3:
            yield f"and {count(len(self.origins) - 3)} more origins"

    def _lines(self) -> list[str]:
        parts = self.parts()
        step = "" if self.step is None else f"step {count(self.step)}: "
        lines = [f"{step}{self.headline}", *([f"    {parts['source']}"] if self.source else [])]
        lines.extend(f"  {line}" for line in parts["notes"])
        if self.chain:
            lines.append("  propagation path (phase, operation, module, line, non-finite values):")
            lines.extend(f"    {line}" for line in _shown_chain(self.chain))
        if self.remedy:
            lines.append(f"  suggested fix ({parts['check']}):" if parts["check"] else "  suggested fix:")
            lines.extend(f"    {line}" for line in self.remedy.splitlines()[:12])
        return lines


_PLAIN_FIELDS = tuple(one.name for one in fields(Diagnosis) if one.name not in ("samples", "origins", "chain"))


def _tail(filename: str) -> str:
    """The last two parts of a path: enough to know a file by."""
    return "/".join(filename.replace("\\", "/").split("/")[-2:])


def _origin(origin: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{plain(str(key), 40)} {plain(str(value), 120)}" for key, value in origin.items() if value is not None
    )


def _shown_chain(chain: Sequence[ChainLink]) -> list[str]:
    if len(chain) <= SHOWN_LINKS:
        return [str(link) for link in chain]
    half = SHOWN_LINKS // 2
    hidden = len(chain) - 2 * half
    return [*map(str, chain[:half]), f"… {count(hidden)} more …", *map(str, chain[-half:])]


class NonFiniteError(DatacheckError):
    """The loss or a gradient is non-finite; ``diagnosis`` says why.

    ``bundle`` is the path of the bundle that replays the step elsewhere, where one was written.
    """

    def __init__(self, diagnosis: Diagnosis, bundle: str | None = None) -> None:
        super().__init__(str(diagnosis) + (f"\n  replay it: datacheck replay {plain(bundle)}" if bundle else ""))
        self.diagnosis = diagnosis
        self.bundle = bundle

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[Diagnosis, str | None]]:
        return type(self), (self.diagnosis, self.bundle)
