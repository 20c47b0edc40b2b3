"""DC9xx: inputs that cannot or must not be read."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.UNREADABLE, level="file", cacheable=False)

CODES = (
    _code(
        code="DC901",
        name="unreadable",
        message="cannot be read: {detail}",
        finds="A file that is truncated, corrupt, or in a different format than its name says.",
        why="""The usual cause is an interrupted copy. Its rows are missing from training
            and validation without any notice.""",
        example="""An upload was interrupted, so the footer is missing:

                DC901 cannot be read: not a Parquet file, its last 4 bytes are not PAR1 (data/train/part-3.parquet)""",
        remedy="""Copy or produce the file again, and compare its size or checksum with the original. The other files of
            the job are still processed, and the next run processes only this one.""",
    ),
    _code(
        code="DC902",
        name="not-found",
        message="cannot be opened: {detail}",
        finds="A file that does not exist, that vanished while the job ran, or that you have no permission to read.",
        why="Rows that cannot be opened are missing from every count.",
        example="""The file belongs to another user:

                DC902 cannot be opened: Permission denied (data/train/part-3.parquet)""",
        remedy="""Check the path, whether a network file system is mounted, and the permissions (`ls -l`). Do not let
            another program clear the folder while a job runs.""",
    ),
    _code(
        code="DC903",
        name="executable",
        message="would run code when loaded: {detail}",
        finds="A pickled `.npy` or `.npz` member, or a `.pt` file that cannot be loaded as tensors alone.",
        why="""A pickle is a program. Whoever wrote the file decides what runs on your machine, with your permissions,
            the moment it is loaded. datacheck never loads one.""",
        example="""An object array was saved with pickle:

                DC903 would run code when loaded: the array holds pickled Python objects (features.npy)""",
        remedy="""If you trust the author, have them save plain arrays: `np.save` with a numeric dtype, `torch.save` of
            a dictionary of tensors, or better `safetensors`. If you do not, delete the file.""",
    ),
    _code(
        code="DC904",
        name="expands-too-far",
        message="expands beyond the limits: {detail}",
        finds="An archive that would expand beyond the allowed size, ratio or member count (a zip bomb).",
        why="A few kilobytes can expand to more than memory and disk can hold, and take the machine down.",
        example="""A member of 4 MB claims to hold 4 TB:

                DC904 expands beyond the limits: 'x.npy' expands 1,048,576 times, 1,000 are allowed (features.npz)""",
        remedy="If the file is legitimate, store it without compression (`np.savez`), or as `.npy` or Parquet.",
    ),
    _code(
        code="DC905",
        name="encrypted",
        message="is encrypted: {detail}",
        finds="An encrypted Parquet file, or an encrypted archive member.",
        why="An encrypted file cannot be checked, and its rows would be missing from the count.",
        example="""The file was written with Parquet's modular encryption:

                DC905 is encrypted: its footer is encrypted and datacheck has no key (data/train/part-3.parquet)""",
        remedy="Decrypt the file to a place that only the job can read, and pass that path to the job.",
    ),
    _code(
        code="DC906",
        name="pointer",
        message="is a pointer, not the data: {detail}",
        finds="A Git LFS or DVC pointer instead of the data.",
        why="The repository was cloned without its large files. Readers call such a file corrupt, which is misleading.",
        example="""The file is a text file of 132 bytes:

                DC906 is a pointer, not the data: it is a Git LFS pointer; fetch the data with
                `git lfs pull --include=data/train.parquet` (data/train.parquet)""",
        remedy="Fetch the data: `git lfs pull`, or `dvc pull`. In CI, set `lfs: true` on the checkout step.",
    ),
    _code(
        code="DC907",
        name="empty-file",
        message="is empty: {detail}",
        finds="A file of zero bytes.",
        why="A program died after opening the file and before writing to it. Its data is missing.",
        example="""A full disk left an empty file behind:

                DC907 is empty: a Parquet file has at least 12 bytes (data/train/part-9.parquet)""",
        remedy="""Produce the file again, or delete it if it should not exist. Check the log of the program that wrote
            it.""",
    ),
    _code(
        code="DC908",
        name="changed",
        message="changed while it was being read: {detail}",
        finds="""A file whose size, modification time or identity changed between the start of the job and the reading
            of its last row.""",
        why="Some findings are about rows that no longer exist. Results that mix two states describe neither.",
        example="""Another program was still writing:

                DC908 changed while it was being read: it grew from 4,096 to 8,192 bytes (data/train/part-9.parquet)""",
        remedy="""Wait until the writer has finished, or have it write under another name and rename the file at the
            end. Then run the job again.""",
    ),
    _code(
        code="DC909",
        name="unknown-format",
        message="has a format that datacheck does not read: {detail}",
        finds="A file with an unknown suffix and unknown first bytes.",
        why="A file that is skipped silently is a part of the dataset that was not checked.",
        example="""A data folder also contains an image:

                DC909 has a format that datacheck does not read: suffix '.png' (data/train/plot.png)""",
        remedy="""Give the file the suffix of its format (`.parquet`, `.arrow`, `.feather`, `.csv`, `.npy`, `.npz`,
            `.safetensors`, `.pt`), or pass only the files you mean: `data/train/*.parquet`.""",
    ),
    _code(
        code="DC910",
        name="machine-failure",
        message="was not read, because this machine failed: {detail}",
        finds="""A file that was not read to its end for a reason outside of it. Such reasons are a full temporary
            folder, too little memory, too many open files, a disk or network error, or a worker that died each time.""",
        why="""The file may be intact, but its rows were not checked. Writing it again would change nothing; the next
            run may read it.""",
        example="""The temporary folder, in which compressed arrays are unpacked, was full:

                DC910 was not read, because this machine failed: No space left on device (data/train/part-3.npz)""",
        remedy="""Free space in the temporary folder or set `TMPDIR` to a larger one, use fewer workers where memory is
            short, raise `ulimit -n` where files are. Then run the same command again: it reads what was not read.""",
    ),
    _code(
        code="DC911",
        name="missing-part",
        about_inputs=True,
        message="is not complete: {detail}",
        finds="""A part that an index names and that is absent: a shard in `model.safetensors.index.json`, a file in
            `state.json`, a number of `train-00003-of-00010.parquet`, a tensor that no shard holds.""",
        why="Readers that list the folder never notice: they train on fewer rows, or load fewer weights.",
        example="""A download was interrupted after three of four files:

                DC911 is not complete: 1 of 4 parts is missing: 'train-00002-of-00004.parquet' (data/train)""",
        remedy="Fetch or write the missing parts. The parts that exist are still checked.",
    ),
    _code(
        code="DC912",
        name="unlisted-part",
        about_inputs=True,
        message="holds files that its index does not name: {detail}",
        finds="A file next to the parts of a dataset that the index does not name.",
        why="""Readers that list the folder read it, readers that follow the index do not. The usual cause is an older
            version that was not deleted: its rows are trained on twice.""",
        example="""A dataset was saved again with fewer files:

                DC912 holds files that its index does not name: state.json does not name 'data-00004-of-00005.arrow' (data/train)""",
        remedy="Delete the file if it is left over from an older version, or write the dataset again.",
    ),
    _code(
        code="DC913",
        name="files-not-checked",
        severity="info",
        about_inputs=True,
        message="{detail}",
        finds="""Files of a folder that are of no format that datacheck reads, or whose names are hidden, and COCO label
            files with a value of more than 64 MiB. Also files to check of which all are excluded.""",
        why="""A folder means the files in it. What was not checked is counted, so that a clean report means what
            it says.""",
        example="""A folder also has files of other formats:

                DC913 info: 7 files were not checked: 4 .h5, 3 .pkl (data/train)""",
        remedy="""Nothing needs to be done if training does not read them. Otherwise convert them to a format in
            `docs/scan.md`. Documentation, code, checksums and index files are not counted. It is a note and does not
            fail a job.""",
    ),
    _code(
        code="DC914",
        name="table-folder",
        about_inputs=True,
        message="is a table whose log says which files belong to it: {detail}",
        finds="""A Delta or Iceberg table whose log cannot be followed. A part of it is missing, it names files outside of the
            table, or it needs a feature that datacheck does not support (rows deleted by values of floats, mapped
            columns). As a warning: a file of such a table that was named itself.""",
        why="""Such a folder also holds files that the table no longer has: deleted rows and older versions. Reading
            every file in it reads rows that are not part of the table.""",
        example="""Rows were deleted by the values of a column of floats:

                DC914 is a table whose log says which files belong to it: its rows are deleted by values of double, which is not applied; compact the table first, or export the snapshot that you train on to plain Parquet (data/events)""",
        remedy="""Name the folder of the table rather than its files. Where the log cannot be followed, export the
            version that you train on:

                # DeltaTable('data/events', version=12).to_pyarrow_dataset()  ->  pyarrow.dataset.write_dataset

            `reading: {table_version: 12}` pins a version of a Delta table, or a snapshot of an Iceberg table.""",
    ),
    _code(
        code="DC915",
        name="internal-error",
        message="was not checked, because datacheck failed on it: {detail}",
        finds="A file on which datacheck itself raised an exception that it should have handled.",
        why="The file was not checked, or not to its end. Nothing is known about the values that were not reached.",
        example="""A column type that no test had covered:

                DC915 was not checked, because datacheck failed on it: TypeError: unhashable type in rules.py, line 178 (data/train/part-3.parquet)""",
        remedy="""Report it as a bug of datacheck, with the message and, if you can, the file or how it was written. The
            other files are processed as usual.""",
    ),
    _code(
        code="DC916",
        name="sample-only",
        severity="info",
        about_inputs=True,
        message="{detail}",
        finds="Data that `--sample` left out in part.",
        why="""A clean sample says little about the rest. What was looked at is counted, so that a report means what it
            says.""",
        example="""A first look at a large folder, with `datacheck scan data/train --sample 1%`:

                DC916 info: a sample: 3 of 250 units checked, 190 MB of 16 GB (data/train)""",
        remedy="""Scan without `--sample` before you rely on the data. Unique keys, rules about the whole dataset and
            checks that need all rows are not judged in a sample (DC005, as a warning).""",
    ),
    _code(
        code="DC917",
        name="proven-by-statistics",
        severity="info",
        about_inputs=True,
        message="{violations} of {checked} column chunks were not read: their statistics prove that they break no rule",
        finds="Column chunks of a Parquet file that were not read, with `--trust-statistics`.",
        why="""The footer of a Parquet file has the number of nulls and NaN and the extremes of each column. These are what the
            writer of the file claims; the values have not been checked.""",
        example="""A file that DuckDB 2 wrote, which counts NaN, with `datacheck scan data/ --trust-statistics`:

                DC917 info: 96 of 96 column chunks were not read: their statistics prove that they break no rule (data/part-0.parquet)""",
        remedy="Scan without `--trust-statistics` to read every value.",
    ),
)
