"""The pages docs/nan/*.md: each has a program that fails, what it prints, and the fix.

``python tests/torch_doors/nan_pages.py`` writes into them what their programs print.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "nan"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> tuple[str, str, str]:
    """The program, what is shown as its output, and the fix."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    assert [language for language, _ in found] == ["python", "text", "python"], page.name
    program, shown, fix = (source for _, source in found)
    return program, shown, fix


def run(program: str, fix: str, folder: Path) -> tuple[str, str]:
    """What the program prints, and then the fix, in one interpreter, as somebody runs them who saves them as files."""
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        return _run("train.py", program, names), _run("fixed.py", fix, names)
    finally:
        os.chdir(before)


def _run(name: str, source: str, names: dict[str, Any]) -> str:
    path = Path.cwd() / name
    path.write_text(source, encoding="utf-8")
    linecache.checkcache()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(source, str(path), "exec"), names)
    return re.sub(r"[\w.-]+/train\.py", "train.py", printed.getvalue())


def main() -> None:
    for page in PAGES:
        program, shown, fix = blocks(page)
        with tempfile.TemporaryDirectory() as folder:
            printed, _ = run(program, fix, Path(folder))
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(f"```text\n{shown}```", f"```text\n{printed}```"), encoding="utf-8")


if __name__ == "__main__":
    main()
