"""Print the lowest versions that pyproject.toml admits of what datacheck needs, as constraints for pip."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lowest() -> list[str]:
    dependencies = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [re.sub(r"^([\w.-]+)>=([^,]+).*$", r"\1==\2", line) for line in dependencies]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest()) + "\n")
