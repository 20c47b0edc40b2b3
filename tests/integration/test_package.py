"""The wheel and the source distribution, built as a release builds them; the wheel is installed outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from email import message_from_string
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import datacheck

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]
SCRIPTS = "Scripts" if os.name == "nt" else "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, which is built from the source distribution, and that."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def run(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command of an environment that has the wheel and what it needs, from a folder outside the repository."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    commands = folder / "venv" / SCRIPTS
    python = commands / Path(sys.executable).name
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(built[0]),
        ],
        check=True,
        timeout=200,
    )
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # What datacheck needs comes from this environment. An editable installation does not: nobody reads its .pth from there.
    (Path(packages.stdout.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [commands / name, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
        )

    np.save(folder / "values.npy", np.array([1.0, np.nan]))
    return run


def test_what_is_imported_is_the_installed_package(run: Run) -> None:
    done = run("python", "-c", "import datacheck; print(datacheck.__version__, datacheck.__file__)")
    version, file = done.stdout.split()
    assert version == datacheck.__version__
    assert "elsewhere" in file


@pytest.mark.parametrize("command", ["datacheck", "datacheck-ml"])
def test_the_commands_are_there(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "scan" in done.stdout


def test_a_scan_finds_what_is_bad(run: Run) -> None:
    done = run("datacheck", "scan", "values.npy")
    assert done.returncode == 1, done.stderr
    assert "DC101 1 of 2 values are NaN in the array (values.npy, row 1)" in done.stdout


def test_the_schema_of_the_example_is_valid(run: Run) -> None:
    done = run("datacheck", "schema", "check", str(ROOT / "schemas" / "flights.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_of_the_package_is_in_the_wheel_and_nothing_else(built: tuple[Path, Path]) -> None:
    package = ROOT / "datacheck"
    files = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    packed = {name for name in zipfile.ZipFile(built[0]).namelist() if ".dist-info/" not in name}
    assert packed == files
    assert "datacheck/py.typed" in packed


def test_the_metadata_name_license_and_needs(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_string(wheel.read(name).decode())
        assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert metadata["License-Expression"] == "Apache-2.0"
    needs = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    assert {"numpy", "pyarrow"} <= {need.name for need in needs if need.marker is None}
    assert "torch" not in {need.name for need in needs if need.marker is None}


def test_the_source_distribution_holds_what_a_rebuild_and_its_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "pyproject.toml", "constraints.txt", "tests/conftest.py", "schemas/flights.yaml"}
    assert wanted <= names
    assert not [name for name in names if name.startswith((".venv", "data/", "out/", ".git/"))]
