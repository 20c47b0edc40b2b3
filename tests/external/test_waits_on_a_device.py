"""How often the host waits for an accelerator because of a guard, where the numbers of a step are read at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

PROGRAM = Path(__file__).with_name("device_waits.py")


def test_each_loss_is_waited_for_once() -> None:
    made = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    waits = json.loads(made.stdout)
    assert waits.pop("two optimizers, a loss each") == 2
    assert len(waits) == 8
    assert set(waits.values()) == {1}, waits
