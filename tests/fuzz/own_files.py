"""Files that datacheck writes for itself, each with the command that reads it again."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

__all__ = ["OwnFile", "write_own_files"]

_SCHEMA = {"version": 1, "fields": {"x": {"dtype": "float64", "nullable": True, "le": 9.5}, "y": {"dtype": "int64"}}}
_PIPELINE = {
    "version": 1,
    "inputs": "in",
    "clean": [{"action": "impute", "strategy": "mean"}],
    "schema": "schema.yaml",
    "output": {"path": "out"},
}


@dataclass(frozen=True)
class OwnFile:
    """A file below ``folder``, and the arguments of the command that reads it.

    ``expected`` is what the output holds unless the command refuses; None where the file may say what it will hold.
    """

    folder: Path
    path: Path
    arguments: tuple[str, ...]
    expected: dict[str, bytes] | None = None

    def restore(self, into: Path) -> Path:
        """A copy of the whole folder, and where the file is in it."""
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(self.folder, into)
        return into / self.path.relative_to(self.folder)

    def wrong_output(self, folder: Path) -> str | None:
        """What a finished run in ``folder`` published that it should not have."""
        if self.expected is None or (folder / "out" / ".datacheck").exists():
            return None
        found = _tables(folder / "out")
        wrong = [name for name, content in self.expected.items() if found.get(name) != content]
        return f"the output differs: {', '.join(wrong)}" if wrong else None


def write_own_files(folder: Path) -> list[OwnFile]:
    """Everything that a run, a killed run, ``fit``, a baseline and a cache leave behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / "in").mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"x": np.array([1.0, np.nan, number]), "y": np.arange(3)}), folder / "in" / f"{number}.parquet"
        )
    (folder / "schema.yaml").write_text(yaml.safe_dump(_SCHEMA))
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(_PIPELINE))
    clean = ("clean", "pipeline.yaml", "--statistics", "statistics.json")
    run, gate = ("run", "pipeline.yaml"), ("scan", "in", "--baseline", "baseline.json")
    _command(folder, "fit", "pipeline.yaml", "-o", "statistics.json")
    _command(folder, "baseline", "write", "in", "-o", "baseline.json")
    done, killed = _copy(folder, "done"), _copy(folder, "killed")
    _command(done, *run)
    _kill_a_run(killed)
    tables = _tables(done / "out")
    return [
        OwnFile(folder, folder / "schema.yaml", run),
        OwnFile(folder, folder / "pipeline.yaml", run),
        OwnFile(folder, folder / "statistics.json", clean),
        OwnFile(folder, folder / "baseline.json", gate),
        OwnFile(done, done / "out" / "manifest.json", run, tables),
        *(
            OwnFile(killed, path, run, tables)
            for path in sorted((killed / "out" / ".datacheck").rglob("*"))
            if path.is_file()
        ),
    ]


def _tables(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.parquet"))}


def _copy(folder: Path, name: str) -> Path:
    copy = folder.parent / f"{folder.name}-{name}"
    shutil.copytree(folder, copy)
    return copy


def _command(folder: Path, *arguments: str) -> None:
    _inside(folder, lambda: _main(arguments))


def _main(arguments: tuple[str, ...]) -> None:
    from datacheck.cli.app import main

    assert main(arguments) in (0, 1)


def _inside(folder: Path, action: Callable[[], None]) -> None:
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        action()


class _Killed(BaseException):
    pass


def _kill_a_run(folder: Path) -> None:
    """A run that ends after two of its three units."""
    import datacheck
    from datacheck.publishing.publisher import Publisher

    record, done = Publisher.record, list[str]()

    def dies(self: Publisher, name: str, unit: object) -> None:
        if len(done) == 2:
            raise _Killed
        done.append(name)
        record(self, name, unit)  # type: ignore[arg-type]

    def run() -> None:
        with contextlib.suppress(_Killed):
            datacheck.run("pipeline.yaml", workers=1)

    Publisher.record = dies  # type: ignore[method-assign]
    try:
        _inside(folder, run)
    finally:
        Publisher.record = record  # type: ignore[method-assign]
