"""The examples of the repository in a folder of their own, with their data made once for all tests."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def make_data(repository: Path) -> Iterator[ModuleType]:
    """The script that writes the example data, as a module."""
    spec = importlib.util.spec_from_file_location("make_data", repository / "pipelines" / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_data"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_data"]


@pytest.fixture(scope="session")
def example(repository: Path, make_data: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pipelines``, ``schemas`` and ``data``; tests write to nothing in it but ``out``."""
    folder = tmp_path_factory.mktemp("example")
    for name in ("pipelines", "schemas"):
        shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert make_data.main(["--output", str(folder / "data")]) == 0
    return folder


@pytest.fixture(scope="session")
def data(example: Path) -> Path:
    """The example data."""
    return example / "data"
