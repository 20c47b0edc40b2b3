"""Draw the sample that replaces a bad one: the same for any number of workers and ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence


def candidates(seed: int, epoch: int, index: int, pool: int | Sequence[int], attempts: int) -> Iterator[int]:
    """The indices to try instead of ``index``, in order: at most ``attempts``, without duplicates.

    ``pool`` is the length of the dataset, or the indices to draw from. Each draw depends only on the seed, the epoch, the
    index and the number of the attempt; the random generators of NumPy, torch and Python are not used. The index itself and
    its neighbours are avoided where there are others.
    """
    size = pool if isinstance(pool, int) else len(pool)
    taken = {index - 1, index, index + 1} if size > 3 else {index}
    given = attempt = 0
    # A small dataset may not have as many others; each rejected draw costs a hash.
    while given < attempts and attempt < 64 * attempts:
        position = _draw(seed, epoch, index, attempt) % max(size, 1)
        attempt += 1
        chosen = position if isinstance(pool, int) else int(pool[position])
        if size == 0 or chosen in taken:
            continue
        taken.add(chosen)
        given += 1
        yield chosen


def _draw(seed: int, epoch: int, index: int, attempt: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}/{attempt}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
