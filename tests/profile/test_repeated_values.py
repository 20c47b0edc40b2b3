"""Texts that a dictionary or runs repeat: profiled as plain ones are, without a copy for each row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from datacheck.batch import Batch
from datacheck.profile import unit as units
from datacheck.profile.notes.find import NOTE_OPTIONS
from datacheck.profile.options import ProfileOptions
from datacheck.profile.unit import UnitProfile, profile_batches

VALUES = ["b", None, "a", "a", " b", "a", None, "b"] * 3


def _profile(array: pa.Array, options: ProfileOptions) -> UnitProfile:
    return profile_batches([Batch.from_arrow(pa.RecordBatch.from_arrays([array], ["x"]), 0)], options)


@pytest.mark.parametrize("layout", ["dictionary", "runs"])
@pytest.mark.parametrize("kind", [pa.string(), pa.binary()], ids=str)
def test_repeated_texts_have_the_profile_of_plain_ones(layout: str, kind: pa.DataType) -> None:
    plain = pa.array(VALUES, pa.string()).cast(kind)
    encoded = plain.dictionary_encode()
    if layout == "dictionary":
        # One value is listed twice, and one is not used.
        words = pa.concat_arrays([encoded.dictionary, encoded.dictionary, pa.array(["z"]).cast(kind)])
        repeated = pa.DictionaryArray.from_arrays(encoded.indices, words)
    else:
        repeated = pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(VALUES) + 1), pa.int32()), plain)
        repeated = pa.concat_arrays(
            [repeated, pa.RunEndEncodedArray.from_arrays(pa.array([9], pa.int32()), pa.array(["a"]).cast(kind))]
        )
        plain = pa.concat_arrays([plain, pa.array(["a"] * 9).cast(kind)])
    options = ProfileOptions(max_distinct=5, find_unique=True, hash_rows=True, with_notes=True, with_samples=True)
    one, other = _profile(plain, options), _profile(repeated, options)
    (mine,), (theirs,) = one.leaves.values(), other.leaves.values()
    assert (mine.num_slots, mine.num_nulls, mine.dtype) == (theirs.num_slots, theirs.num_nulls, theirs.dtype)
    assert (mine.vocabulary is None) == (theirs.vocabulary is None)
    if mine.vocabulary is not None and theirs.vocabulary is not None:
        assert mine.vocabulary.counts
        assert mine.vocabulary.counts == theirs.vocabulary.counts
    assert one.rows is not None
    assert other.rows is not None
    assert one.rows.hashes.tolist() == other.rows.hashes.tolist()
    assert one.unique == other.unique
    tallies = [[tally.count for note in profile.notes.values() for tally in note.tallies()] for profile in (one, other)]
    assert tallies[0] == tallies[1]


def test_repeated_texts_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(leaf: object) -> object:
        raise AssertionError(f"{leaf} was expanded")

    monkeypatch.setattr(units, "decoded", refuse)
    words = pa.array(["x" * 1000, "y" * 300])
    found = _profile(pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), words), NOTE_OPTIONS)
    assert [profile.num_nulls for profile in found.leaves.values()] == [1]
