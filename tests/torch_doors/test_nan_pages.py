from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from nan_pages import FOLDER, PAGES, blocks, run

from datacheck.torch.diagnosis.diagnosis import CAUSES

#: The last digits differ from one processor to another.
NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")


def test_every_cause_has_a_page_and_every_page_a_cause() -> None:
    assert {page.stem for page in PAGES} == set(CAUSES)


def test_the_first_page_leads_to_every_other() -> None:
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", index)) == set(CAUSES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_program_prints_what_its_page_shows_and_the_fix_is_one(page: Path, tmp_path: Path) -> None:
    program, shown, fix = blocks(page)
    printed, after = run(program, fix, tmp_path)
    assert [NUMBER.sub("<number>", line) for line in printed.splitlines()] == [
        NUMBER.sub("<number>", line) for line in shown.splitlines()
    ]
    assert re.match(rf"(step \d+: )?DC4\d\d {page.stem} ", shown)
    # The fix ends with an assertion of its own.
    assert after == ""
    assert "assert " in fix
