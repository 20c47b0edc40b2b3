"""The files of a folder that no source reads: which of them may hold data, so that they can be reported."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence

from datacheck.findings import Finding
from datacheck.formats import format_of_name, unread_format_of_name
from datacheck.text import plain, quantity

#: Documentation, code, configuration, checksums, locks and logs: they lie beside data and hold none.
_COMPANIONS = frozenset({
    ".md", ".markdown", ".rst", ".html", ".htm", ".pdf", ".bib", ".cff", ".css", ".sarif",
    ".py", ".pyi", ".pyc", ".ipynb", ".sh", ".bat", ".ps1", ".js", ".ts", ".c", ".h", ".cc", ".cpp", ".cu", ".rs", ".go",
    ".java", ".r", ".jl", ".m", ".sql", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".conf", ".env", ".lock", ".log",
    ".dvc", ".crc", ".idx", ".md5", ".sha1", ".sha256", ".sha512", ".sum", ".sig", ".asc", ".torrent", ".license",
})  # fmt: skip
#: Index files, descriptions and datacheck's own files.
_COMPANION_NAMES = re.compile(
    r"(readme|license|licence|notice|authors|copying|changelog|citation|contributing|contributors|version|manifest"
    r"|makefile|dockerfile|requirements|checksums|md5sums|sha\d+sums?|thumbs\.db|desktop\.ini|lock\.mdb)(\..*)?"
    r"|(.*config|dataset_info|dataset_infos|dataset_dict|state|index|statistics|run|report|croissant|datapackage"
    r"|metadata|package|package-lock|pyproject|tokenizer|special_tokens_map|added_tokens|vocab"
    r"|generation_config|datacheck.*)\.(json|jsonl)"
    r"|.*\.index(\.\w+)?\.json|training_args\.bin"
)
#: The most kinds of files that a note lists.
_MAX_KINDS = 6


def is_companion(name: str) -> bool:
    """Whether a file with this name describes the data beside it."""
    return _COMPANION_NAMES.fullmatch(name.lower()) is not None


def is_counted(name: str) -> bool:
    """Whether a file that no source reads may hold data."""
    lowered = name.lower()
    if lowered.startswith((".", "_")):
        # Tools keep their own files under such names. What counts is data that a name hides.
        is_data = format_of_name(name) is not None or unread_format_of_name(name) is not None
        return is_data and not lowered.startswith(("._", ".~"))
    return posixpath.splitext(lowered)[1] not in _COMPANIONS and not _COMPANION_NAMES.fullmatch(lowered)


def is_counted_folder(name: str) -> bool:
    """Whether a folder that is not looked into may hold data: a leading ``_`` hides it, a leading ``.`` marks a tool's own."""
    return name.startswith("_") and not name.startswith("__") and name != "_delta_log"


def skipped_finding(root: str, skipped: Sequence[str]) -> Finding:
    """The note on the files below one folder that were not checked; the name of a folder ends with a slash."""
    counts = Counter(map(_kind, skipped))
    shown = [f"{number:,} {plain(kind, 40)}" for kind, number in counts.most_common(_MAX_KINDS)]
    rest = sum(counts.values()) - sum(number for _, number in counts.most_common(_MAX_KINDS))
    kinds = ", ".join([*shown, *([f"{rest:,} others"] if rest else [])])
    num_folders = sum(path.endswith("/") for path in skipped)
    what = [
        quantity(number, noun)
        for number, noun in ((len(skipped) - num_folders, "file"), (num_folders, "folder"))
        if number
    ]
    verb = "was" if len(skipped) == 1 else "were"
    detail = f"{' and '.join(what)} {verb} not checked: {kinds}"
    return Finding("DC913", root, None, len(skipped), len(skipped), detail=detail)


def _kind(path: str) -> str:
    name = posixpath.basename(path.rstrip("/")).lower()
    if path.endswith("/"):
        return f"{posixpath.splitext(name)[1] or name} folder" if not name.startswith("_") else "hidden folder"
    if name.startswith((".", "_")):
        return "hidden"
    stem, suffix = posixpath.splitext(name)
    if suffix in (".gz", ".zst", ".bz2", ".xz"):
        suffix = posixpath.splitext(stem)[1] + suffix
    return suffix or "without a suffix"
