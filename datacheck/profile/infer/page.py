"""The page of an inferred schema: the draft, what looks wrong in the data, and how its values are distributed."""

from __future__ import annotations

from collections.abc import Sequence

from datacheck.profile.infer.infer import Inference
from datacheck.reports.distributions import FieldDistribution
from datacheck.reports.html.distributions import distribution_sections
from datacheck.reports.html.elements import Section, tag
from datacheck.reports.html.findings import explanation_sections, finding_sections
from datacheck.reports.html.page import document
from datacheck.reports.text import num_by_severity
from datacheck.text import plain, quantity

#: Longer drafts are cut: the file has them whole.
_MAX_LINES = 600


def page_of_inference(found: Inference, distributions: Sequence[FieldDistribution]) -> str:
    """A page like a report's: at most 900 kB, without scripts, the same bytes for the same data."""
    wrong = f"{num_by_severity(found.listed)} in the data" if found.listed else ""
    style = "bad" if any(finding.is_error for finding in found.listed) else "warn" if found.listed else "good"
    facts = [
        ("fields", f"{len(found.schema.fields):,}"),
        *([("not read", quantity(len(found.errors), "file"))] if found.errors else []),
    ]
    lines = found.to_yaml().splitlines()
    draft = "\n".join(plain(line, 400) for line in lines[:_MAX_LINES])
    if len(lines) > _MAX_LINES:
        draft += f"\n# and {len(lines) - _MAX_LINES:,} more lines"
    note = "It describes the data as it was, not as it should be: read it before you use it."
    sections = [
        *finding_sections(found.listed),
        *distribution_sections(distributions),
        Section(
            "Draft of a schema",
            tag("p", note, class_="soft"),
            tag("pre", draft, class_="draft", tabindex="0", aria_label="Draft of a schema", role="region"),
        ),
        *explanation_sections(found.listed),
    ]
    return document("datacheck schema infer", wrong or "Nothing looks wrong", style, facts, sections)
