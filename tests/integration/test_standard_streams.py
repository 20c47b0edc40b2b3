"""Standard output that is closed, full, a pipe without a reader, or limited to ASCII: an exit code, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COMMANDS = {
    "scan": ("scan 'b\u00e4d.npy'", 1),
    "scan-rows": ("scan 'b\u00e4d.npy' --show-rows 1", 1),
    "rows": ("rows 'b\u00e4d.npy'", 1),
    "explain": ("explain DC101", 0),
    "markdown": ("scan 'b\u00e4d.npy' --format markdown", 1),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "b\u00e4d.npy", np.array([1.0, np.nan]))
    return tmp_path


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "how", ["PYTHONIOENCODING=ascii {}", "{} >&-", "{} >&- 2>&- <&-", "{} | head -c0", "{} >/dev/full"]
)
def test_any_standard_output_will_do(name: str, how: str, folder: Path) -> None:
    command, code = COMMANDS[name]
    done = shell(f"set -o pipefail; {how.format(f'{sys.executable} -m datacheck {command}')}", folder)
    assert done.returncode == (2 if "/dev/full" in how else code)
    assert done.stderr == (
        "datacheck: cannot write to standard output: No space left on device\n" if "full" in how else ""
    )


def test_a_file_name_in_a_suggested_command_is_quoted(folder: Path) -> None:
    (folder / "$(touch X).csv").write_bytes(b"a\n\xe9\n")
    done = shell(f"{sys.executable} -m datacheck scan '$(touch X).csv'", folder)
    assert "iconv -f latin-1 -t utf-8 '$(touch X).csv'" in done.stdout
