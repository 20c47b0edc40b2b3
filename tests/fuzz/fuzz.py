"""Mutates a small file of every format and every file of datacheck's own, and reads each mutant in a child process of
bounded memory and time.

``python tests/fuzz/fuzz.py --seconds 3600 --seed 7`` prints what it found, keeps those files in ``tests/fuzz/found``, where
they are regression tests, and exits with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Self

from folder_formats import FOLDER_KINDS, copy_with, files_of, write_folders
from mutate import mutate
from own_files import write_own_files
from record_files import write_megatron, write_record_files
from volume_files import write_volumes

HERE = Path(__file__).parent
FOUND = HERE / "found"
#: A file that takes longer is a finding.
MAX_SECONDS = 60.0


class Child:
    """A child process that scans files and runs commands, started again when one ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def problem_of(self, job: Path | list[str]) -> str | None:
        """What goes wrong with a file or a command: a traceback, a signal, too much memory or time; None if nothing does."""
        if self._process is None:
            command = [sys.executable, str(HERE / "scan_files.py")]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(str(job) if isinstance(job, Path) else job) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], MAX_SECONDS)
        answer = process.stdout.readline() if ready else ""
        if answer:
            try:
                problem = json.loads(answer)
            except ValueError:
                problem = f"it prints to standard output: {answer!r}"
            if problem is not None:
                self.close()
            return None if problem is None else str(problem)
        if not ready:
            self.close()
            return f"no answer after {MAX_SECONDS:.0f} s"
        status = process.wait()
        self.close()
        return f"the process ended with {status}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            self._process.wait()
            self._process = None


def write_originals(folder: Path) -> list[Path]:
    """One small file of every format, which mutants are made of."""
    sys.path.insert(0, str(HERE.parent))
    from source_files import FORMATS, make_table

    paths = []
    for index, form in enumerate(FORMATS.values()):
        path = folder / f"{index}{form.suffix}"
        try:
            form.write(path, make_table(60))
        except ImportError:
            continue
        paths.append(path)
    return [*paths, *_write_nested(folder), *write_record_files(folder), *write_volumes(folder)]


def _write_nested(folder: Path) -> list[Path]:
    """Text, dictionaries, lists, structs and times, as Parquet and Arrow."""
    import pyarrow as pa
    import pyarrow.ipc as ipc
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "text": ["ab", None, "c"] * 20,
            "lists": [[1.0], None, [2.0, 3.0]] * 20,
            "words": pa.array(["a", "b", "c"] * 20).dictionary_encode(),
            "deep": [[{"x": "a"}], [], None] * 20,
            "when": pa.array([0, None, 10**9] * 20, pa.timestamp("s")),
        }
    )
    pq.write_table(table, folder / "nested.parquet", row_group_size=20)
    for compression in (None, "zstd"):
        with ipc.new_file(
            folder / f"nested-{compression}.arrow", table.schema, options=ipc.IpcWriteOptions(compression=compression)
        ) as writer:
            writer.write_table(table)
    return [folder / "nested.parquet", folder / "nested-None.arrow", folder / "nested-zstd.arrow"]


class Mutants:
    """Mutants of files, with ``(name, problem)`` of each that is not handled."""

    def __init__(self, seed: int, keep: Path | None = None) -> None:
        self.choose = random.Random(seed)
        self.counts = Counter[str]()
        self.problems = list[tuple[str, str]]()
        self._keep = keep

    def add(self, kind: str, mutant: bytes, problem: str | None) -> None:
        self.counts[kind] += 1
        if problem is None:
            return
        name = f"{hashlib.sha256(mutant).hexdigest()[:12]}{kind}"
        self.problems.append((name, problem))
        # A file of a folder says nothing alone.
        if self._keep is not None and kind[1:].partition("-")[0] not in FOLDER_KINDS:
            self._keep.mkdir(exist_ok=True)
            (self._keep / name).write_bytes(mutant)


def fuzz_formats(seconds: float, folder: Path, mutants: Mutants) -> None:
    """Scan mutants of a small file of every format, and of datasets that are folders, with one file in them changed."""
    originals = write_originals(folder)
    datasets = [*write_folders(folder / "datasets"), write_megatron(folder / "datasets" / "megatron")]
    with Child() as child:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            original = mutants.choose.choice([*originals, *datasets])
            if original in datasets:
                changed = mutants.choose.choice(list(files_of(original)))
                mutant = mutate(changed.read_bytes(), mutants.choose)
                kind, path = f".{original.name}", folder / "mutant-of-folder" / original.name
                copy_with(original, path, changed, mutant)
            else:
                mutant = mutate(original.read_bytes(), mutants.choose)
                kind = original.name[original.name.index(".") :]
                path = folder / f"mutant{kind}"
                path.write_bytes(mutant)
            mutants.add(kind, mutant, child.problem_of(path))


def fuzz_own_files(seconds: float, folder: Path, mutants: Mutants) -> None:
    """Run the commands that read mutants of datacheck's own files. Such a file is refused or makes no difference."""
    own_files = write_own_files(folder / "base")
    with Child() as child:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            own = mutants.choose.choice(own_files)
            path = own.restore(folder / "copy")
            mutant = mutate(own.path.read_bytes(), mutants.choose)
            path.write_bytes(mutant)
            problem = child.problem_of([str(folder / "copy"), *own.arguments])
            mutants.add(f"-{own.path.name}", mutant, problem or own.wrong_output(folder / "copy"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    mutants = Mutants(arguments.seed, FOUND)
    with tempfile.TemporaryDirectory() as folder:
        fuzz_formats(arguments.seconds * 0.8, Path(folder), mutants)
        fuzz_own_files(arguments.seconds * 0.2, Path(folder) / "own", mutants)
    problems, counts = mutants.problems, mutants.counts
    print(f"seed {arguments.seed}: {sum(counts.values()):,} files ({dict(counts)}), {len(problems)} with problems")
    for name, problem in problems:
        print(f"\n{FOUND / name}\n{problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
