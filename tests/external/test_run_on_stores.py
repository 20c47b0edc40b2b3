"""``run`` on what is only read: stores, checkpoints and shards with an index are cleaned into tables, or refused clearly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

import datacheck
from datacheck.errors import OutputError
from datacheck.formats import format_of_name

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from folder_formats import _WRITERS


@pytest.mark.parametrize("kind", [kind for kind in _WRITERS if not kind.startswith("table.")])
def test_a_store_is_cleaned_or_refused_with_a_reason(kind: str, tmp_path: Path) -> None:
    _WRITERS[kind](tmp_path / kind)
    pipeline = {"version": 1, "inputs": {"train": kind}, "clean": [{"action": "drop_row", "codes": ["DC101", "DC102"]}]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**pipeline, "output": {"path": "out"}}))
    if kind.startswith("checkpoint"):
        with pytest.raises(OutputError, match="checkpoints are checked and compared, not cleaned"):
            datacheck.run(tmp_path / "p.yaml")
        assert not (tmp_path / "out").exists()
        return
    report = datacheck.run(tmp_path / "p.yaml")
    written = [path for path in (tmp_path / "out" / "train").rglob("*") if path.is_file()]
    if report.ok:
        assert report.num_rows > 0
        assert any(format_of_name(path.name) for path in written)
    else:
        (finding,) = [one for one in report.findings if one.is_error]
        assert (finding.code, "only a scan can read them together" in finding.message) == ("DC304", True)
        assert not written
