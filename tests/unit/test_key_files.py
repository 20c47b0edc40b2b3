"""Files of hashes in partitions: every row is searched once, with all rows of its hash, and little is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datacheck.hashing import key_files
from datacheck.hashing.key_files import Keyed, KeyFile, ranges_of, read_range, read_rows, write_key_files


def written(folder: Path, sizes: list[int], num_words: int) -> tuple[list[KeyFile], list[tuple[Any, ...]]]:
    """Files of random hashes, some of which occur in several, and the file, row and hash of each row."""
    rng = np.random.default_rng(len(sizes))
    files: list[KeyFile] = []
    rows: list[tuple[Any, ...]] = []
    pool = rng.integers(0, 1 << 64, (max(1, sum(sizes) // 2), num_words), dtype=np.uint64)
    for number, size in enumerate(sizes):
        hashes = pool[rng.integers(0, len(pool), size)]
        files += write_key_files(str(folder / str(number)), [Keyed(("x",), hashes, np.arange(size), [(0, None)])])
        rows += [(number, row, *one) for row, one in enumerate(hashes.tolist())]
    return files, rows


@pytest.mark.parametrize("num_words", [1, 2])
@pytest.mark.parametrize("sizes", [[0], [1], [63, 64, 127, 128], [5] * 40, [3, 300, 20_000]], ids=str)
@pytest.mark.parametrize("rows_at_once", [7, 500, 1 << 22])
def test_every_row_is_in_one_range_with_all_of_its_hash(
    sizes: list[int], num_words: int, rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rows_at_once == 7 and sum(sizes) > 1000:
        rows_at_once = 700
    files, expected = written(tmp_path, sizes, num_words)
    monkeypatch.setattr(key_files, "_ROWS_AT_ONCE", rows_at_once)
    ranges = ranges_of(files)
    found: list[tuple[Any, ...]] = []
    range_of: dict[tuple[int, ...], int] = {}
    for number, wanted in enumerate(ranges):
        records = read_range(files, wanted)
        owners = records.owners(np.arange(len(records.rows))).tolist()
        hashes = records.hashes.reshape(len(owners), num_words).tolist()
        some = [(owner, row, *one) for owner, row, one in zip(owners, records.rows.tolist(), hashes, strict=True)]
        assert all(range_of.setdefault(one[2:], number) == number for one in some)
        in_order: dict[tuple[int, ...], tuple[int, int]] = {}
        for one in some:
            assert in_order.get(one[2:], (-1, -1)) < one[:2], "rows of one hash are in the order of the dataset"
            in_order[one[2:]] = one[:2]
        found += some
    assert sorted(found) == expected
    # Not many more ranges than the rows need, however many files these are in.
    assert len(ranges) <= max(1, 4 * sum(sizes) // rows_at_once + 256 // rows_at_once + 2)
    assert [read_rows(file).tolist() for file in files] == [list(range(size)) for size in sizes]


def test_what_is_kept_in_memory_of_a_small_unit_is_small(tmp_path: Path) -> None:
    files, _ = written(tmp_path, [50, 1000, 20_000, 40_000], 2)
    assert [file.starts.nbytes + file.checksums.nbytes for file in files] == [12, 68, 2052, 2052]
