"""``datacheck.lightning`` and its siblings: there at once, imported only when used, and clear where a trainer is missing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TRAINERS = ("accelerate", "composer", "fastai", "lightning", "transformers")


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_datacheck_imports_no_trainer_and_no_torch() -> None:
    loaded = json.loads(run("import datacheck, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert not {*TRAINERS, "torch"} & set(loaded)


@pytest.mark.slow
@pytest.mark.torch
def test_accelerates_guard_is_reached_without_importing_a_trainer() -> None:
    pytest.importorskip("torch")
    program = "import datacheck, sys; print(datacheck.accelerate.guard.__name__, {names} & set(sys.modules))"
    assert run(program.format(names=set(TRAINERS))) == "guard set()\n"


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "accelerate"])
def test_a_trainer_that_is_not_installed_is_named_with_what_to_install(name: str) -> None:
    pytest.importorskip("torch")
    program = f"""
import sys
for hidden in {TRAINERS!r} + ("pytorch_lightning",):
    sys.modules[hidden] = None
import datacheck
try:
    datacheck.{name}
except ModuleNotFoundError as error:
    print(error)
"""
    shown = run(program)
    assert shown.startswith(f"datacheck.{name} needs ")
    assert ": pip install " in shown
