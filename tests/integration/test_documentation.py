"""Every block of the README and of the docs runs in a fresh folder, from top to bottom, and prints what is shown."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_blocks import BLOCK

from datacheck.formats import known_suffixes

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DRIVER = Path(__file__).with_name("run_blocks.py")
#: Pages whose every block runs here. Those of ci.md need services of others: tests/gate holds them to their schemas.
PAGES = {
    "README.md": True,
    "docs/cleaning.md": False,
    "docs/cluster.md": False,
    "docs/compare.md": True,
    "docs/comparison.md": False,
    "docs/dataset-rules.md": False,
    "docs/expressions.md": False,
    "docs/in-memory.md": False,
    "docs/loader.md": True,
    "docs/nan/index.md": True,
    "docs/reports.md": False,
    "docs/scan.md": False,
    "docs/schema.md": False,
    "docs/training.md": True,
    "docs/tutorial.md": True,
}
#: What differs from run to run.
TIMING = re.compile(r"\(?\d[\d.,]* m?s(, [\d.,]+ [KMG]?i?B/s)?\)?")


@pytest.fixture
def fresh(example: Path, tmp_path: Path) -> Path:
    """What a fresh clone holds after ``make run``: the sources, the example data, and an environment to activate."""
    for name in ("pipelines", "schemas"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data").symlink_to(example / "data")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    return tmp_path


def run_page(page: str, folder: Path) -> list[tuple[str, str, str, int]]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "XDG_CACHE_HOME": str(folder / ".cache"),
    }
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(REPOSITORY / page)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(result) for result in json.loads(done.stdout)]


def test_the_readme_counts_the_files_of_the_example(example: Path) -> None:
    text = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    number = len(list((example / "data" / "flights").rglob("*.parquet")))
    assert f"{number} Parquet files of flights in `data/flights`" in text


def shown_lines(text: str) -> list[str]:
    """The lines of a text, without what differs from run to run: times, and the folder that a clone lies in."""
    lines = (re.sub(r"[\w.-]+/train\.py", "train.py", line.rstrip()) for line in text.splitlines())
    return [TIMING.sub("<time>", line) for line in lines if line.strip() not in ("", "...")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.torch if needs_torch else ()) for page, needs_torch in PAGES.items()]
)
def test_every_block_runs_and_prints_what_is_shown(page: str, fresh: Path) -> None:
    printed: list[str] = []
    for language, source, output, code in run_page(page, fresh):
        if language == "text":
            rest = iter(printed)
            missing = [line for line in shown_lines(source) if line not in rest]
            if is_output(source):
                assert missing == [], f"{page} shows what is not printed: {missing[0]!r}; printed: {printed}"
            continue
        if language in ("sh", "python"):
            # A command that finds something ends with 1; 2 is a mistake of the page.
            assert code in (0, 1), f"{page}:\n{source}\n{output}"
            assert "datacheck: " not in output, f"{page}:\n{source}\n{output}"
            assert language == "sh" or code == 0, f"{page}:\n{source}\n{output}"
            assert "command not found" not in output, output
            printed = shown_lines(output)


def is_output(source: str) -> bool:
    """Whether a text block shows what the block before it prints: not an example line, nor a tree of folders."""
    return not source.startswith(("out/", "DC101 3 of 4,096", "DC316 ", "schemas/"))


def test_every_page_is_run_or_is_known_to_need_no_run() -> None:
    pages = {"README.md", "docs/nan/index.md", *(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))}
    # Examples that need trainers, other packages or an object store run in tests/external.
    known = {
        f"docs/{name}.md"
        for name in ("ci", "codes", "configuration", "formats", "index", "scale", "sklearn", "storage")
    }
    assert pages - set(PAGES) == known


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    if page == "README.md":
        # The first screen: the commands of make, what they print, how to install.
        text = text.partition("\n## ")[2]
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
    assert len(BLOCK.findall(text)) == len(fences) // 2
    assert "" not in fences[::2]


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        "docs/ci.md",
        "docs/codes.md",
        "docs/configuration.md",
        "docs/formats.md",
        "docs/storage.md",
        "docs/trainers/index.md",
    ],
)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = REPOSITORY / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{page}: {target}"


def test_every_suffix_is_in_the_table_of_formats() -> None:
    page = (REPOSITORY / "docs" / "formats.md").read_text()
    named = set(re.findall("`([^`]+)`", page))
    assert {suffix for suffix in known_suffixes() if not suffix.endswith((".gz", ".zst", ".zstd"))} <= named


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = set(re.findall(r"[\w/-]+\.md$", navigation, re.MULTILINE))
    pages = {path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")}
    # Pages of the reference are made from the code when the site is built.
    assert {page for page in listed if not page.startswith("reference/")} == pages


@pytest.fixture(scope="module")
def made() -> Any:
    """The program that makes pages from the code."""
    spec = importlib.util.spec_from_file_location("docs_pages", REPOSITORY / ".ci" / "docs_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("models", ["pipeline_models", "settings_models", "schema_models"])
def test_every_key_of_the_reference_has_a_type_and_a_meaning(models: str, made: Any) -> None:
    page = made.keys_page("Keys", "", getattr(made, models)())
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 20
    assert [key for key, kind, _, meaning in rows if not kind or not meaning] == []


def test_the_page_of_formats_has_each_with_a_pipeline_that_is_valid(made: Any) -> None:
    from datacheck.format_table import BUILT_IN
    from datacheck.jobs.pipeline import PipelineFile

    page = made.formats_page()
    assert {one.title for one in BUILT_IN.values() if one.source and one.suffixes} <= set(
        re.findall(r"^## (.*)", page, re.M)
    )
    blocks = [source for language, source in BLOCK.findall(page) if language == "yaml"]
    assert len(blocks) > 15
    for block in blocks:
        PipelineFile.model_validate(yaml.safe_load(block))
