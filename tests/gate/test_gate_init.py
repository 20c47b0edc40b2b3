"""``datacheck init``: what it writes runs, says what it chose, and replaces nothing unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import run_command, write_table

import datacheck
from datacheck.cli.app import main
from datacheck.gate.documents import check_document

RANDOM = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run() -> tuple[int, int]:
    """The rows that the pipeline keeps and quarantines."""
    accounts = datacheck.run("pipeline.yaml").accounts
    return sum(one.num_kept for one in accounts), sum(one.num_quarantined for one in accounts)


def write_splits(folder: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for part in range(2):
            x = RANDOM.normal(20, 8, 500).astype(np.float32)
            x[::100] = -999.99
            gaps = np.where(np.arange(500) % 3, RANDOM.normal(0, 1, 500), np.nan)
            rows = {"x": x, "gaps": gaps, "constant": np.zeros(500), "id": np.arange(500) + 1000 * (2 * number + part)}
            write_table(folder / "data" / split / f"{part}.parquet", rows)


@pytest.mark.slow
def test_the_files_run_and_say_what_was_chosen(folder: Path) -> None:
    write_splits(folder)
    done = run_command("init", "data", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What looks wrong in the data (6 errors, 2 notes):" in done.stdout
    pipeline = (folder / "pipeline.yaml").read_text()
    assert "inputs:\n  train: data/train\n  test: data/test\n  val: data/val\nfit: train" in pipeline
    for comment in (
        "# The splits are those that the paths name.",
        "#   DC201 ge in 'x': 30 values",
        "#   - {action: impute, strategy: median, fields: gaps}  # has nulls or NaN",
        "#   - {action: drop_field, fields: constant}  # has one value only",
        "once 'missing: [-999.99]' is in its field",
    ):
        assert comment in pipeline
    assert [check_document(name) for name in ("schema.yaml", "pipeline.yaml", "datacheck.yaml")]
    assert run() == (2970, 30)
    assert {finding.code for finding in datacheck.check().findings} == {"DC201"}


def test_the_suggested_rules_can_be_used(folder: Path) -> None:
    write_splits(folder)
    assert main(["init", "data"]) == 0
    text = (folder / "pipeline.yaml").read_text()
    head, _, rules = text.partition("clean: []\n")
    listed, _, rest = rules.partition("\noutput:")
    lines = [line.replace("#   - ", "  - ") for line in listed.splitlines() if line.startswith("#   - ")]
    (folder / "pipeline.yaml").write_text(f"{head}clean:\n" + "\n".join(lines) + f"\noutput:{rest}")
    schema = (folder / "schema.yaml").read_text()
    (folder / "schema.yaml").write_text(schema.replace("  x:\n", "  x:\n    missing: [-999.99]\n"))
    assert run() == (3000, 0)


def test_arrays_side_by_side_are_fields_of_one_table(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / "arrays").mkdir(exist_ok=True)
        np.save(folder / "arrays" / f"X_{split}.npy", RANDOM.normal(0, 1, (50, 3)))
        np.save(folder / "arrays" / f"y_{split}.npy", RANDOM.integers(0, 2, 50))
    assert main(["init", "arrays", "-o", "project"]) == 0
    pipeline = (folder / "project" / "pipeline.yaml").read_text()
    assert "  train:\n    X: ../arrays/X_train.npy\n    y: ../arrays/y_train.npy\n" in pipeline
    schema = datacheck.load_schema("project/schema.yaml")
    assert {name: field.required for name, field in schema.fields.items()} == {"X": True, "y": True}
    (account,) = {one.num_kept for one in datacheck.run("project/pipeline.yaml").accounts}
    assert account == 50


def test_of_several_formats_the_largest_is_taken(folder: Path) -> None:
    write_table(folder / "data" / "a.parquet", {"x": RANDOM.normal(0, 1, 500)})
    (folder / "data" / "b.csv").write_text("y\n1\n")
    assert main(["init", "data"]) == 0
    assert "# Left out: 1 file of another format (csv)." in (folder / "pipeline.yaml").read_text()
    assert "  data/**/*.parquet: schema.yaml" in (folder / "datacheck.yaml").read_text()
    assert run() == (500, 0)
    assert datacheck.check().ok


def test_existing_files_are_kept_and_unreadable_ones_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(folder / "data" / "a.parquet", {"x": [1.0, 2.0]})
    (folder / "data" / "b.parquet").write_bytes(b"PAR1 nothing")
    assert main(["init", "data"]) == 1
    assert "left out: " in capsys.readouterr().err
    before = (folder / "schema.yaml").read_bytes()
    assert main(["init", "data"]) == 2
    assert "already exists; replace it with --overwrite" in capsys.readouterr().err
    assert (folder / "schema.yaml").read_bytes() == before
    assert main(["init", "data", "--overwrite"]) == 1
    assert main(["init", "nowhere", "-o", "other"]) == 2


def odd_folders(folder: Path) -> dict[str, Any]:
    """Folders that are not one table, each by what writes it."""

    def hub() -> None:
        for split in ("train", "validation"):
            write_table(folder / f"data/{split}-00000-of-00001.parquet", {"text": ["a", "b"], "label": [0, 1]})
        (folder / "README.md").write_text("---\nconfigs: []\n---\n")

    def strange_names() -> None:
        write_table(
            folder / "o'dd #1.parquet", {"a: b": [1.0, 2.0], "- x": ["y", "n"], "null": [1, 2], "é\n": [True, False]}
        )

    def pictures() -> None:
        image = pytest.importorskip("PIL.Image")
        for kind in ("cat", "dog"):
            (folder / kind).mkdir()
            image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / kind / "0.png")

    return {
        "hub": hub,
        "names": strange_names,
        "pictures": pictures,
        "array": lambda: np.save(folder / "data.npy", RANDOM.normal(size=(10, 4))),
        "keys": lambda: (folder / "a.csv").write_text("id\n" + "\n".join(map(str, range(100)))),
        "no rows": lambda: (folder / "a.csv").write_text("a,b\n"),
        "tokens": lambda: RANDOM.integers(0, 500, 1000).astype(np.uint16).tofile(folder / "train.bin"),
    }


@pytest.mark.parametrize("kind", ["hub", "names", "pictures", "array", "keys", "no rows", "tokens"])
def test_odd_folders_get_files_that_run(folder: Path, kind: str) -> None:
    odd_folders(folder)[kind]()
    assert main(["init", "."]) == 0
    assert [check_document(name) for name in ("schema.yaml", "pipeline.yaml", "datacheck.yaml")]
    run()
    assert datacheck.check().ok


@pytest.mark.parametrize(
    ("name", "content"), [(None, b""), ("a.parquet", b"PAR1garbage"), ("a.csv", b""), ("notes.md", b"# notes")]
)
def test_folders_without_data_get_an_error_and_no_files(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str | None, content: bytes
) -> None:
    if name is not None:
        (folder / name).write_bytes(content)
    assert main(["init", "."]) == 2
    assert capsys.readouterr().err.startswith("datacheck: .")
    assert not list(folder.glob("*.yaml"))


def test_the_schema_is_used_for_the_current_folder_with_files_of_other_formats(folder: Path) -> None:
    write_table(folder / "data" / "a.parquet", {"x": np.arange(100.0)})
    (folder / "data" / "b.csv").write_text("y\n1\n")
    assert main(["init", "."]) == 0
    write_table(folder / "data" / "a.parquet", {"x": np.arange(100.0) - 900})
    assert {finding.code for finding in datacheck.check().findings} == {"DC201"}
