"""The example data, made once for the tests of the loader that need it, and what the main job makes of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import datacheck

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def make_example(folder: Path) -> Path:
    """A folder with the pipelines, their schemas and the data, without output."""
    for name in ("pipelines", "schemas"):
        (folder / name).mkdir()
        for file in (REPOSITORY / name).glob("*.yaml"):
            (folder / name / file.name).write_bytes(file.read_bytes())
    if (REPOSITORY / "data" / "weather" / "made.json").exists() and (
        REPOSITORY / "data" / "flights" / "made.json"
    ).exists():
        (folder / "data").symlink_to(REPOSITORY / "data")
        return folder
    spec = importlib.util.spec_from_file_location("make_data_for_loader", REPOSITORY / "pipelines" / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.main(["--output", str(folder / "data")])
    return folder


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with both pipelines run."""
    folder = make_example(tmp_path_factory.mktemp("example"))
    for name in ("weather", "flights"):
        datacheck.run(str(folder / "pipelines" / f"{name}.yaml"))
    return folder
