"""What all tests share: where the repository is, another interpreter, and how hypothesis looks for examples."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from memory_storage import memory

__all__ = ["memory"]

# A shared machine is slow now and then, so there is no deadline. CI looks at the same examples in every run, so that a
# failure there is about the change at hand.
settings.register_profile("datacheck", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("datacheck")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Verdicts that tests remember stay among them, and nobody's configuration reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in [name for name in os.environ if name.startswith("DATACHECK_") or name == "NO_COLOR"]:
            patch.delenv(name)
        yield


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


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests interrupt: a shell has it ignored in what it runs in the background."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if is_ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave thousands of collected tests, and the libraries they import, out of every later garbage collection."""
    gc.collect()
    gc.freeze()
