"""A job in several processes that share a folder: whatever is divided, killed, repeated or late, the result is the same."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, write_pipeline
from source_files import Format, make_table, parameters, shrink_units

import datacheck
from datacheck.cli.app import main
from datacheck.errors import OutputError, ShardFinished, UsageError, WorkerLostError
from datacheck.gate.checking import check
from datacheck.jobs.execution import Execution
from datacheck.jobs.inputs import find_duplicates, find_inputs
from datacheck.jobs.pipeline import load_pipeline
from datacheck.jobs.progress import NullProgress
from datacheck.jobs.sharding.merge import Merge
from datacheck.jobs.sharding.shards import Shard

every_format = pytest.mark.parametrize("form", parameters())
SCHEMA = {
    "unique": [["id"]],
    "determines": {"site": "region"},
    "fields": {
        "x": {"ge": -50, "mean": {"ge": -10, "le": 10}},
        "c": {"nullable": True},
        "n": {"nullable": True},
    },
}
CLEAN = [
    {"action": "impute", "strategy": "mean", "fields": "x"},
    {"action": "impute", "strategy": "median", "fields": "y"},
    {"action": "impute", "strategy": "most_frequent", "fields": "c"},
    {"action": "clip", "fields": "y", "quantiles": [0.05, 0.95]},
]


def write_data(folder: Path) -> Path:
    """Two splits in files of several units, with what every rule and repair is about, and a file that is not readable."""
    rng = np.random.default_rng(0)
    for split, names in (("train", "abc"), ("test", "d")):
        (folder / split).mkdir(parents=True)
        for number, name in enumerate(names):
            x = rng.normal(size=300)
            x[rng.integers(0, 300, 9)] = np.nan
            x[17] = -99
            ids = np.arange(300) + 300 * number + (10_000 if split == "test" else 0)
            ids[40 + number] = 7
            y = pa.array([None if index % 17 == 3 else float(index % 50) for index in range(300)])
            c = pa.array([None if index % 23 == 5 else "ab"[index % 2] for index in range(300)])
            site = rng.integers(0, 5, 300)
            region = site % 2
            region[99] = 9
            table = pa.table({"id": ids, "x": x, "y": y, "c": c, "n": np.arange(300.0), "site": site, "region": region})
            pq.write_table(table, folder / split / f"{name}.parquet", row_group_size=75)
    (folder / "train" / "z.parquet").write_bytes(b"PAR1 and no more")
    return write_pipeline(
        folder, {"train": "train", "test": "test"}, CLEAN, schema=SCHEMA, fit="train", otherwise="quarantine"
    )


@dataclass(frozen=True)
class Example:
    """The data, with its pipeline, and what one process makes of it."""

    folder: Path
    pipeline: Path
    report: datacheck.RunReport
    published: dict[str, bytes]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        shrink_units(patch)
        patch.chdir(folder)
        pipeline = write_data(folder / "job").relative_to(folder)
        report = datacheck.run(pipeline)
        found = published(folder / "job/out")
        shutil.rmtree(folder / "job/out")
    return Example(folder, pipeline, report, found)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: Example) -> Path:
    shrink_units(monkeypatch)
    monkeypatch.chdir(tmp_path)
    # The power does not fail here, and a busy disk would take most of the time.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    shutil.copytree(example.folder / "job", tmp_path / "job")
    return example.pipeline


def finish(call: Any, *, executor: Shard, **options: Any) -> Any:
    """Run one shard to its end; what it returns where it does not end early."""
    try:
        return call(executor=executor, **options)
    except ShardFinished:
        return None


def run_shards(call: Any, count: int, results: Any = None, *, at_once: bool = False, **options: Any) -> None:
    shards = [Shard(index + 1, count, results, patience=20) for index in range(count)]
    if not at_once:
        for shard in shards:
            finish(call, executor=shard, **options)
        return
    failed: list[BaseException] = []

    def work(shard: Shard) -> None:
        try:
            finish(call, executor=shard, **options)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def published(folder: Path) -> dict[str, bytes]:
    found = contents(folder)
    assert not any(name.startswith(".datacheck") for name in found)
    return found


def merged(call: Any, results: Any = None, **options: Any) -> Any:
    return call(executor=Merge(results), **options)


def timeless(report: Any) -> Any:
    return replace(report, seconds=0)


@pytest.mark.parametrize(("count", "at_once", "many"), [(3, True, 32), (8, False, 32), (3, True, 1)])
def test_shards_publish_the_bytes_of_one_process(
    pipeline: Path, example: Example, count: int, at_once: bool, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = example.report
    if many == 1:
        # Results are put together by one shard for all.
        monkeypatch.setattr("datacheck.jobs.sharding.shards._MANY_SHARDS", 1)
        monkeypatch.setattr("datacheck.jobs.sharding.shards._TOGETHER", 2)
    call = partial(datacheck.run, pipeline)
    run_shards(call, count, at_once=at_once)
    assert not (pipeline.parent / "out" / "manifest.json").exists()
    assert any((pipeline.parent / "out/.datacheck/results").glob("run-*/merge-inspect-*")) is (many == 1)
    assert timeless(merged(call)) == timeless(whole)
    assert published(pipeline.parent / "out") == example.published
    assert {one.code for one in whole.findings} >= {"DC101", "DC104", "DC301", "DC327", "DC901"}
    # To merge again, and a shard that comes late, change nothing.
    assert timeless(merged(call)) == timeless(replace(whole, is_new=False))
    assert finish(call, executor=Shard(2, 3)) is not None
    assert published(pipeline.parent / "out") == example.published


def test_a_shard_may_run_again_and_their_number_may_change(pipeline: Path, example: Example) -> None:
    call = partial(datacheck.run, pipeline)
    first = Shard(4, 4)
    finish(call, executor=first)
    again = Shard(4, 4)
    finish(call, executor=again)
    assert (again.num_done, again.num_known > 0, first.num_done > 0) == (1, True, True), (
        "only the broken file is tried again"
    )
    run_shards(call, 3)
    merged(call)
    assert published(pipeline.parent / "out") == example.published


@pytest.mark.parametrize("most", [1, 7])
def test_units_of_large_jobs_are_merged_where_they_are_done(
    pipeline: Path, example: Example, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    one_by_one = timeless(datacheck.scan("job/train", SCHEMA))
    monkeypatch.setattr("datacheck.jobs.units.groups.MAX_GROUPS", most)
    assert timeless(datacheck.scan("job/train", SCHEMA)) == one_by_one
    report = datacheck.run(pipeline)
    assert (timeless(report), published(Path("job/out"))) == (timeless(example.report), example.published)
    shutil.rmtree("job/out")
    run_shards(partial(datacheck.run, pipeline), 2)
    (cleaned,) = Path("job/out/.datacheck/results").glob("run-*/clean-*")
    # A result for each of four files at best, which had four units each.
    assert len([name for name in cleaned.iterdir() if name.suffix != ".claim"]) <= 4 + most
    assert timeless(merged(partial(datacheck.run, pipeline))) == timeless(example.report)
    assert published(Path("job/out")) == example.published


def test_a_merge_names_what_is_missing_and_publishes_nothing(pipeline: Path) -> None:
    call = partial(datacheck.run, pipeline)
    with pytest.raises(OutputError, match="holds no results; run the shards first: the same command with --shard 1/N"):
        merged(call)
    for index in (1, 3):
        finish(call, executor=Shard(index, 3))
    with pytest.raises(OutputError) as caught:
        merged(call)
    assert "5 units of 16 to clean without a result: job/train/a.parquet, unit 1" in str(caught.value)
    assert "run the same command with --shard 2/3 (never started), then merge again" in str(caught.value)
    assert not (pipeline.parent / "out" / "manifest.json").exists()
    finish(call, executor=Shard(2, 3))
    assert merged(call).totals()["num_kept"] > 0


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-9] + b"?" + content[-8:]])
def test_a_damaged_result_is_noticed_and_done_again(pipeline: Path, damage: Any) -> None:
    call = partial(datacheck.run, pipeline)
    run_shards(call, 2)
    results = sorted((pipeline.parent / "out/.datacheck/results").glob("*/clean-*/*[0-9]"))
    results[3].write_bytes(damage(results[3].read_bytes()))
    with pytest.raises(OutputError, match=r"1 unit of 16 to clean with a damaged result: .* 2/2 \(finished\)"):
        merged(call)
    finish(call, executor=Shard(2, 2))
    assert merged(call).totals()["num_kept"] > 0


def test_a_part_that_is_gone_is_made_again(pipeline: Path) -> None:
    call = partial(datacheck.run, pipeline)
    run_shards(call, 2)
    next((pipeline.parent / "out/.datacheck/parts").glob("test.d*.parquet")).unlink()
    with pytest.raises(OutputError, match=r"1 unit of 16 to clean with a damaged result: job/test/d\.parquet"):
        merged(call)
    run_shards(call, 2)
    assert merged(call).totals()["num_kept"] > 0


def test_what_nobody_does_is_done_by_those_who_need_it(pipeline: Path, example: Example) -> None:
    """A killed shard has started and never finishes: the others wait for a while, then do its share."""
    call = partial(datacheck.run, pipeline)
    with pytest.raises(KeyboardInterrupt):
        finish(partial(call, progress=KilledAt("learn")), executor=Shard(1, 2))
    second = Shard(2, 2, patience=0.2)
    finish(call, executor=second)
    merged(call)
    assert published(pipeline.parent / "out") == example.published


class KilledAt(NullProgress):
    """Ends the process, or at least the call, when a pass has begun."""

    def __init__(self, task: str) -> None:
        self._task, self._is_there = task, False

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        self._is_there = task.startswith(self._task)

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        if self._is_there:
            raise KeyboardInterrupt


def test_shards_with_other_settings_are_told_apart(pipeline: Path) -> None:
    finish(partial(datacheck.run, pipeline), executor=Shard(1, 2))
    pipeline.write_text(pipeline.read_text().replace("otherwise: quarantine", "otherwise: drop_row"))
    with pytest.raises(
        OutputError, match=r"holds an unfinished run that differs \(otherwise is \"drop_row\", was \"quarantine\"\)"
    ):
        finish(partial(datacheck.run, pipeline), executor=Shard(2, 2))
    with pytest.raises(OutputError, match="holds results of other settings, files or versions only"):
        merged(partial(datacheck.scan, "job/train"), str(pipeline.parent / "out/.datacheck/results"))


def test_a_merge_that_was_killed_after_it_had_published_is_over(pipeline: Path, example: Example) -> None:
    """While it removed what it needs no more: some of that is left."""
    call = partial(datacheck.run, pipeline)
    run_shards(call, 2)
    results = Path("job/out/.datacheck/results")
    shutil.copytree(results, "before")
    merged(call)
    for folder in Path("before").glob("*/inspect-*"):
        shutil.rmtree(folder)
    shutil.copytree("before", results)
    assert not merged(call).is_new
    assert published(pipeline.parent / "out") == example.published


def test_a_file_that_has_changed_is_read_again(pipeline: Path) -> None:
    """Also one of the same size: what the shards found before is not what it holds now."""
    np.save("job/a.npy", np.arange(10.0))
    call = partial(datacheck.scan, "job/a.npy")
    run_shards(call, 2, "shared")
    assert merged(call, "shared").ok
    np.save("job/a.npy", np.array([np.nan] * 10))
    with pytest.raises(OutputError, match="1 unit of 1 to inspect without a result"):
        merged(call, "shared")
    run_shards(call, 2, "shared")
    assert [one.num_violations for one in merged(call, "shared").findings] == [10]


def test_the_same_file_through_another_mount_is_the_same_and_other_content_is_not(
    pipeline: Path, example: Example
) -> None:
    """A copy has another inode, as a file has behind another mount. Its content decides."""
    call = partial(datacheck.run, pipeline)
    finish(call, executor=Shard(1, 2))
    shutil.copytree("job/train", "copy")
    shutil.rmtree("job/train")
    Path("copy").rename("job/train")
    finish(call, executor=Shard(2, 2))
    merged(call)
    assert published(pipeline.parent / "out") == example.published


def test_other_content_behind_another_mount_is_a_finding(pipeline: Path) -> None:
    """Of the same size and time: only the content tells."""
    path, values = Path("job/a.npy"), np.arange(4000.0)
    np.save(path, values)
    status = path.stat()
    call = partial(datacheck.scan, path)
    finish(call, executor=Shard(1, 2, "shared"))
    path.rename("moved")
    np.save(path, np.append(values[:-1], 0.0))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    run_shards(call, 2, "shared")
    assert {one.code for one in merged(call, "shared").findings} == {"DC908"}


@pytest.mark.parametrize("small_bytes", [0, 4 << 20])
@pytest.mark.parametrize("is_changed", [False, True])
def test_a_scan_takes_a_copy_for_the_same_file_only_if_all_of_its_content_is(
    small_bytes: int, is_changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datacheck.sources.base._SMALL_BYTES", small_bytes)
    monkeypatch.setattr("datacheck.sources.parquet.TARGET_UNIT_BYTES", 1)
    values = np.arange(400_000.0)
    path = Path("a.parquet")
    write = partial(pq.write_table, where=path, row_group_size=100_000, use_dictionary=False, compression="none")
    write(pa.table({"x": values}))
    status = path.stat()
    call = partial(datacheck.scan, str(path))
    finish(call, executor=Shard(1, 2, "shared"))
    path.rename("moved")
    values[212_484] = -1 if is_changed else values[212_484]
    write(pa.table({"x": values}))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for scanned in Path("shared").glob("*/scan-*/*"):
        scanned.unlink()
    run_shards(call, 2, "shared")
    found = merged(call, "shared").findings
    assert [one.code for one in found] == ([] if small_bytes and not is_changed else ["DC908"])
    if not small_bytes:
        assert "a copy, or what has replaced it, whose content was not compared" in found[0].message
        assert "let all machines read one copy" in found[0].message


def test_a_run_notices_one_changed_value_in_the_middle_of_a_large_copy(tmp_path: Path) -> None:
    """Of a file that no other command would compare."""
    path, values = tmp_path / "in/a.npy", np.arange(1e6)
    path.parent.mkdir()
    np.save(path, values)
    status = path.stat()
    call = partial(datacheck.run, write_pipeline(tmp_path, "in", [{"action": "drop_row"}]))
    finish(call, executor=Shard(1, 2))
    (cleaned,) = (tmp_path / "out/.datacheck/results").glob("run-*/clean-*")
    shutil.rmtree(cleaned)
    path.rename(tmp_path / "moved")
    values[452_484] = -1
    np.save(path, values)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    finish(call, executor=Shard(1, 2))
    assert [one.code for one in merged(call).findings] == ["DC908"]


def test_one_process_takes_over_from_shards(pipeline: Path, example: Example) -> None:
    call = partial(datacheck.run, pipeline)
    finish(call, executor=Shard(1, 2))
    call()
    assert published(pipeline.parent / "out") == example.published


def test_statistics_are_learned_in_shards_and_used_in_shards(pipeline: Path) -> None:
    (pipeline.parent / "train" / "z.parquet").unlink()
    whole = datacheck.fit(pipeline)
    call = partial(datacheck.fit, pipeline)
    run_shards(call, 3, "shared")
    learned = merged(call, "shared")
    assert learned.to_json() == whole.to_json()
    datacheck.clean(pipeline, whole, "job/test", "alone")
    clean = partial(datacheck.clean, pipeline, learned, "job/test", "together")
    run_shards(clean, 3)
    merged(clean)
    expected = {name: content for name, content in published(Path("alone")).items() if name != "manifest.json"}
    found = published(Path("together"))
    assert found.pop("manifest.json") == Path("alone/manifest.json").read_bytes()
    assert found == expected


@pytest.mark.parametrize("most", [1, 5])
def test_sketches_are_the_same_whoever_learns_them(pipeline: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the memory bound the order of merging decides: it depends on the inputs alone."""
    (pipeline.parent / "train" / "z.parquet").unlink()
    exact = datacheck.fit(pipeline)
    monkeypatch.setattr("datacheck.jobs.fit._MAX_GROUPS", most)
    monkeypatch.setattr("datacheck.jobs.fit._MAX_RESULTS", 2)
    monkeypatch.setattr("datacheck.cleaning.fit.accumulator._KEPT_BYTES_TOGETHER", 64)
    sketched = datacheck.fit(pipeline, workers=1)
    assert any(not one.exact for one in sketched.learned)
    run_shards(partial(datacheck.fit, pipeline), 3, "shared")
    assert merged(partial(datacheck.fit, pipeline), "shared").to_json() == sketched.to_json()
    with monkeypatch.context() as patch:
        # What is merged in two levels, or by a shard for all, is the same.
        patch.setattr("datacheck.jobs.sharding.shards._TOGETHER", 1)
        run_shards(partial(datacheck.fit, pipeline), 3, "others")
        assert merged(partial(datacheck.fit, pipeline), "others").to_json() == sketched.to_json()
        assert len(list(Path("others").glob("fit-*/merge-learn-*"))) == 2
    assert datacheck.fit(pipeline, workers=3).to_json() == sketched.to_json()
    (learned, *_) = Path("shared").glob("fit-*/learn-1-*")
    # With one group a file, two of the three files have one result.
    assert len([one for one in learned.iterdir() if not one.suffix]) == (2 if most == 1 else 6)
    for one, same in zip(exact.learned, sketched.learned, strict=True):
        assert np.allclose(one.values, same.values, atol=2) if one.statistic != "most_frequent" else one == same


@pytest.mark.parametrize("rows_at_once", [2, 50, 1000])
def test_keys_are_compared_in_parts(pipeline: Path, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_pipeline(pipeline)
    expected = find_duplicates(find_inputs(loaded, Execution()), loaded.schema, Execution())
    assert sum(len(rows) for of_file in expected.values() for _, rows in of_file) > 2
    monkeypatch.setattr("datacheck.hashing.key_files._ROWS_AT_ONCE", rows_at_once)
    execution = Execution(executor=Shard(1, 1, "shared"))
    with execution.job("run", None):
        inputs = find_inputs(loaded, execution)
        found = find_duplicates(inputs, loaded.schema, execution)
    assert list(found) == list(expected)
    for uri, of_file in expected.items():
        assert [(key, rows.tolist()) for key, rows in found[uri]] == [(key, rows.tolist()) for key, rows in of_file]
    largest = max(Path("shared").rglob("keys/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"?" + largest.read_bytes()[1:])
    for path in Path("shared").rglob("compare-keys*/*"):
        path.unlink()
    with execution.job("run", None), pytest.raises(WorkerLostError, match="is damaged; remove the folder of results"):
        find_duplicates(find_inputs(loaded, execution), loaded.schema, execution)


@pytest.mark.parametrize("schema", [None, {**SCHEMA, "fields": {"x": {}}}])
def test_scans_find_the_same(pipeline: Path, schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "efg":
        shutil.copy("job/test/d.parquet", f"job/test/{name}.parquet")
    call = partial(datacheck.scan, "job", schema)
    expected = timeless(call())
    with monkeypatch.context() as patch:
        # The hashes of keys are in files: neither a shard nor the merge has those of all rows.
        patch.setattr("datacheck.hashing.store.HashStore.add", None)
        run_shards(call, 3, "shared")
        assert timeless(merged(call, "shared")) == expected
    run_shards(partial(check, "job", schema=None, notes=True, cache=False), 2, "gate")
    report = check("job", schema=None, notes=True, cache=False)
    found = merged(partial(check, "job", schema=None, notes=True, cache=False), "gate")
    assert timeless(found) == timeless(report)


def test_schemas_and_comparisons_are_the_same(pipeline: Path) -> None:
    (pipeline.parent / "train" / "z.parquet").unlink()
    infer = partial(datacheck.infer, "job/train")
    run_shards(infer, 3, "shared")
    assert merged(infer, "shared") == infer()
    # Without SciPy, distributions are not compared; the shards of the rest are.
    drift = importlib.util.find_spec("scipy") is not None
    compare = partial(datacheck.compare, "job/train", "job/test", key="id", schema=SCHEMA, drift=drift)
    run_shards(compare, 3, "shared")
    expected = compare()
    assert timeless(merged(compare, "shared")) == timeless(expected)
    assert {"DC311"} <= {one.code for one in expected.findings}


@pytest.mark.parametrize(("most", "together", "num_files"), [(1, 1 << 20, 4), (7, 1, 18)])
def test_a_comparison_in_groups_is_the_same(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, most: int, together: int, num_files: int
) -> None:
    copied = pq.read_table("job/train/b.parquet").slice(80, 150)
    pq.write_table(
        pa.concat_tables([copied, pq.read_table("job/test/d.parquet")]), "job/test/d.parquet", row_group_size=75
    )
    call = partial(datacheck.compare, "job/train", "job/test", key="id", drift=False)
    expected = call()
    assert {"DC310", "DC311", "DC901"} <= {one.code for one in expected.findings}
    monkeypatch.setattr("datacheck.jobs.units.groups.MAX_GROUPS", most)
    monkeypatch.setattr("datacheck.profile.exchanged_keys._MAX_TOGETHER", together)
    assert timeless(call()) == timeless(expected)
    run_shards(call, 2, "shared")
    assert timeless(merged(call, "shared")) == timeless(expected)
    (job,) = Path("shared").glob("compare-*")
    written = [
        [one for one in folder.iterdir() if len(one.name) >= 16] for folder in (job / "exchange/hashes").iterdir()
    ]
    assert max(map(len, written)) == num_files


def test_a_merge_takes_the_options_of_its_command(pipeline: Path) -> None:
    (pipeline.parent / "train" / "z.parquet").unlink()
    statistics = ["--statistics", "learned.json"]
    for command, results, output in (
        (["schema", "infer", "job/train"], ["--results", "shared"], "named.yaml"),
        (["fit", str(pipeline)], ["--results", "shared"], "learned.json"),
        (["clean", str(pipeline), "job/test", *statistics, "-o", "cleaned"], [], "cleaned/manifest.json"),
        (["run", str(pipeline), "--format", "json", "-o", "run.json"], [], "run.json"),
    ):
        options = [] if "-o" in command else ["-o", output]
        main([*command, *results, "--shard", "1/1"])
        main(["merge", *command, *results, *options])
        assert Path(output).exists()


@every_format
def test_every_format_gives_the_same_findings(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form.write(tmp_path / f"a{form.suffix}", make_table(200))
    form.write(tmp_path / f"b{form.suffix}", make_table(50))
    shrink_units(monkeypatch)
    call, results = partial(datacheck.scan, tmp_path), str(tmp_path.parent / f"{tmp_path.name}-results")
    run_shards(call, 2, results)
    assert timeless(merged(call, results)) == timeless(call())


def test_wrong_shards_and_folders_are_errors(pipeline: Path) -> None:
    for text in ("0/3", "4/3", "3", "a/b", "1/0", "-1/3"):
        with pytest.raises(UsageError, match="shard"):
            Shard.parse(text)
    with pytest.raises(
        UsageError, match="scan: name the folder that the shards share for their results, with --results"
    ):
        datacheck.scan("job", executor=Shard(1, 2))
    with pytest.raises(UsageError, match="shards read files, got ndarray"):
        datacheck.scan(np.zeros(3), executor=Shard(1, 2, "shared"))
    Path("job/out").symlink_to("elsewhere")
    Path("job/elsewhere/.datacheck").mkdir(parents=True)
    Path("job/elsewhere/.datacheck/results").symlink_to("/tmp")
    with pytest.raises(OutputError, match="is a link"):
        datacheck.run(pipeline, executor=Shard(1, 2))
