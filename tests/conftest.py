"""What all tests share: where the repository is, another interpreter, and how hypothesis looks for examples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine is slow now and then, so there is no deadline. CI looks at the same examples in every run, so that a
# failure there is about the change at hand.
settings.register_profile("datacheck", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("datacheck")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def run_python() -> Callable[[str], str]:
    """Runs a program in an interpreter of its own and gives back what it printed."""

    def run(program: str) -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
