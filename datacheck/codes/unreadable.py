"""DC9xx: inputs that cannot be read, or must not be."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

__all__ = ["CODES"]

_code = partial(Code, family=Family.UNREADABLE, level="file", cacheable=False)

CODES = (
    _code(
        code="DC901",
        name="unreadable",
        message="cannot be read: {detail}",
        finds="A file that is truncated, corrupt, or not of the format that its name says.",
        why=(
            "A copy that was cut short is the usual cause. Its rows are missing from training, and from validation,"
            " where nobody notices."
        ),
        example=(
            "An upload stopped half way, so the footer is missing:\n"
            "\n"
            "    DC901 cannot be read: not a Parquet file, its last 4 bytes are not PAR1 (data/train/part-3.parquet)"
        ),
        remedy=(
            "Copy or make the file again, and compare its size or checksum with the original. The other files of the"
            " job are done meanwhile, and the next run does only this one."
        ),
    ),
    _code(
        code="DC902",
        name="not-found",
        message="cannot be opened: {detail}",
        finds="A file that is not there, that vanished while the job ran, or that may not be read.",
        why="Rows that cannot be opened are rows that nobody accounts for.",
        example=(
            "The file belongs to another user:\n"
            "\n"
            "    DC902 cannot be opened: Permission denied (data/train/part-3.parquet)"
        ),
        remedy=(
            "Check the path, that a network file system is mounted, and `ls -l` for the permissions. Do not let another"
            " program clear the folder while a job runs."
        ),
    ),
    _code(
        code="DC903",
        name="executable",
        message="asks to run code when it is loaded: {detail}",
        finds="A pickled `.npy` or `.npz` member, or a `.pt` file that needs more than tensors to be loaded.",
        why=(
            "A pickle is a program. Whoever wrote the file decides what runs on your machine, with your rights, the"
            " moment it is loaded. datacheck never loads one."
        ),
        example=(
            "An object array was saved with pickle:\n"
            "\n"
            "    DC903 asks to run code when it is loaded: the array holds pickled Python objects (features.npy)"
        ),
        remedy=(
            "If you trust whoever made it, have them save plain arrays: `np.save` of a numeric dtype, `torch.save` of a"
            " dictionary of tensors, or better `safetensors`. If you do not, delete it."
        ),
    ),
    _code(
        code="DC904",
        name="expands-too-far",
        message="expands beyond its limits: {detail}",
        finds="An archive that would expand beyond the size, ratio or member count that is allowed (a zip bomb).",
        why=(
            "A few kilobytes can expand to more than the memory and the disk hold, and take the machine down with them."
        ),
        example=(
            "A member of 4 MB claims to hold 4 TB:\n"
            "\n"
            "    DC904 expands beyond its limits: 'x.npy' expands 1,048,576 times, 1,000 are allowed (features.npz)"
        ),
        remedy="If the file is what it should be, store it without compression (`np.savez`), or as `.npy` or Parquet.",
    ),
    _code(
        code="DC905",
        name="encrypted",
        message="is encrypted: {detail}",
        finds="An encrypted Parquet file, or an encrypted archive member.",
        why="What cannot be read cannot be checked, and its rows would be missing from the count.",
        example=(
            "The file was written with Parquet's modular encryption:\n"
            "\n"
            "    DC905 is encrypted: its footer is encrypted and datacheck has no key (data/train/part-3.parquet)"
        ),
        remedy="Decrypt the file to a place that only the job can read, and give the job that path.",
    ),
    _code(
        code="DC906",
        name="pointer",
        message="is a pointer, not the data: {detail}",
        finds="A Git LFS or DVC pointer where the data should be.",
        why=(
            "The repository was cloned without its large files. Readers call such a file corrupt, which sends you the"
            " wrong way."
        ),
        example=(
            "A text file of 132 bytes stands where the data should be:\n"
            "\n"
            "    DC906 is a pointer, not the data: it is a Git LFS pointer; fetch the data with\n"
            "    `git lfs pull --include=data/train.parquet` (data/train.parquet)"
        ),
        remedy="Fetch the data: `git lfs pull`, or `dvc pull`. In CI, set `lfs: true` on the checkout step.",
    ),
    _code(
        code="DC907",
        name="empty-file",
        message="holds no bytes: {detail}",
        finds="A file of zero bytes.",
        why="A program died between opening the file and writing to it. What it should have held is missing.",
        example=(
            "A full disk left an empty file behind:\n"
            "\n"
            "    DC907 holds no bytes: a Parquet file has at least 12 (data/train/part-9.parquet)"
        ),
        remedy="Make the file again, or delete it if it should not be there. Check the log of what wrote it.",
    ),
    _code(
        code="DC908",
        name="changed",
        message="changed while it was read: {detail}",
        finds=(
            "A file whose size, time or identity changed between the start of the job and the reading of its last row."
        ),
        why=(
            "Half of the verdicts are about rows that are no longer there. Results that mix two states describe"
            " neither."
        ),
        example=(
            "Another program was still writing:\n"
            "\n"
            "    DC908 changed while it was read: it grew from 4,096 to 8,192 bytes (data/train/part-9.parquet)"
        ),
        remedy=(
            "Wait until the writer is done, or have it write to another name and rename at the end. Then run the job"
            " again."
        ),
    ),
    _code(
        code="DC909",
        name="unknown-format",
        message="is of no format that datacheck reads: {detail}",
        finds="A file whose name has no known suffix and whose first bytes match no known format.",
        why="A file that is passed over in silence is a part of the data set that nobody checked.",
        example=(
            "A folder of data also holds a picture:\n"
            "\n"
            "    DC909 is of no format that datacheck reads: suffix '.png' (data/train/plot.png)"
        ),
        remedy=(
            "Give the file the suffix of its format (`.parquet`, `.arrow`, `.feather`, `.csv`, `.npy`, `.npz`,"
            " `.safetensors`, `.pt`), or name only the files that are meant: `data/train/*.parquet`."
        ),
    ),
)
