"""Run the blocks of a page from top to bottom in the current folder, as somebody who pastes them would.

Shell blocks run in bash, Python blocks in one interpreter. A YAML or TOML block that begins with a comment with a path in it
is saved there. What the blocks printed is written to stdout as JSON: a list of ``[language, source, printed, exit code]``.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH_COMMENT = re.compile(r"# ([\w./-]+\.(?:yaml|toml))\n")


def run_shell(source: str) -> tuple[str, int]:
    done = subprocess.run(["bash"], input=source, capture_output=True, text=True, timeout=240)
    return done.stdout + done.stderr, done.returncode


def run_python(source: str, names: dict[str, Any]) -> tuple[str, int]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(source, "<pasted>", "exec"), names)
        except Exception:
            return printed.getvalue() + traceback.format_exc(), 1
    return printed.getvalue(), 0


def main(page: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    results = []
    for language, source in BLOCK.findall(Path(page).read_text(encoding="utf-8")):
        printed, code = "", 0
        if language == "sh":
            printed, code = run_shell(source)
        elif language == "python":
            printed, code = run_python(source, names)
        elif language in ("yaml", "toml") and (named := PATH_COMMENT.match(source)):
            path = Path(named.group(1))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
        results.append([language, source, printed, code])
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
