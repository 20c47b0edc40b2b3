"""Pages of the documentation that are made from the code when the site is built.

Commands and their options, the Python API, the keys of pipelines, configuration and schemas, and how to use each format.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
#: Modules whose packages this environment lacks: their names are read, and nothing is imported.
TRAINERS = ("lightning", "transformers", "accelerate", "composer", "fastai", "sklearn")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    from mkdocs.structure.files import File

    pages = {
        "reference/cli.md": commands_page(),
        "reference/python.md": api_page("Python", ["datacheck"], "Everything is imported when it is first used."),
        "reference/torch.md": api_page(
            "PyTorch", ["datacheck.torch", "datacheck.torch.safe"], "`pip install 'datacheck-ml[torch]'`"
        )
        + "\n".join(trainer_sections()),
        "reference/pipeline.md": keys_page("Pipeline", "[How to use them](../cleaning.md).", pipeline_models()),
        "reference/settings.md": keys_page(
            "Settings",
            "[How to use them](../configuration.md), in `datacheck.yaml` or `[tool.datacheck]`.",
            settings_models(),
        ),
        "reference/schema.md": keys_page("Schema keys", "[How to use them](../schema.md).", schema_models()),
        "reference/formats.md": formats_page(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository outside the documentation, where a reader of it on the site has no link to follow."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)


def commands_page() -> str:
    """Every command with its arguments and options, as the parser has them."""
    from datacheck.cli.app import build

    lines = ["# Command line", "", "Exit codes: 0 clean, 1 findings, 2 could not run.", ""]
    return "\n".join([*lines, *_commands(build(), ("datacheck",))])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
        return
    yield f"## {' '.join(path)}"
    yield ""
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        example = re.match(r"Example: (.*)", paragraph.strip(), re.DOTALL)
        yield f"```sh\n{example[1]}\n```" if example else _escape(" ".join(paragraph.split()))
        yield ""
    yield "| option | |"
    yield "|---|---|"
    context = command.make_context(path[-1], [], resilient_parsing=True)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield f"| `{record[0]}` | {_escape(' '.join(record[1].split()))} |"
    yield ""


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text)


def api_page(title: str, modules: list[str], head: str) -> str:
    """The public names of modules, with their docstrings."""
    lines = [f"# {title}", "", head, ""]
    for module in modules:
        lines += [f"## {module}", ""]
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            place = f"{getattr(getattr(loaded, name), '__module__', module)}.{name}"
            if not name.startswith("_") and not isinstance(getattr(loaded, name), type(ast)):
                lines += [f"::: {place}", ""]
    return "\n".join(lines)


def pipeline_models() -> dict[str, Any]:
    from datacheck.cleaning import rules
    from datacheck.jobs.pipeline import Output, PipelineFile, RowsInput

    models = {"A pipeline": PipelineFile, "inputs, with rows": RowsInput, "output": Output}
    return models | {f"action: {name}": model for name, model in rules._MODELS.items()}


def settings_models() -> dict[str, Any]:
    from datacheck.gate.settings import Settings
    from datacheck.jobs.reading import Reading
    from datacheck.profile.compare.thresholds import Thresholds

    return {"The configuration": Settings, "reading": Reading, "compare": Thresholds}


def schema_models() -> dict[str, Any]:
    from datacheck.schema import dataset_models
    from datacheck.schema.field import Field
    from datacheck.schema.model import Expression, Schema

    rules = ("Sequence", "Determines", "Reference", "Splits", "OwnCheck")
    named = {re.sub(r"(?<!^)([A-Z])", r" \1", name).lower(): getattr(dataset_models, name) for name in rules}
    return {"A schema": Schema, "A field": Field, "An expression": Expression, **named}


def keys_page(title: str, head: str, models: dict[str, Any]) -> str:
    """The keys of models of pydantic: type, default, and what their descriptions or docstrings say."""
    lines = [f"# {title}", "", head, ""]
    for name, model in models.items():
        document = model.model_json_schema()
        first = re.split(r"\n\s*\n|\n\s*Attributes:", inspect.getdoc(model) or "")[0]
        lines += [f"## {name}", "", _prose(first), "", "| key | type | default | |", "|---|---|---|---|"]
        meanings = attributes_of(model)
        for key, field in document.get("properties", {}).items():
            if key == "action":
                continue
            default = "" if key not in document.get("required", ()) and "default" not in field else "required"
            if "default" in field:
                default = (
                    ""
                    if field["default"] in (None, [], "") or isinstance(field["default"], dict)
                    else f"`{_shown(field['default'])}`"
                )
            meaning = field.get("description") or meanings.get(key.replace("-", "_")) or meanings.get(f"{key}_") or ""
            lines.append(f"| `{key}` | {_type_of(field, document)} | {default} | {_prose(meaning)} |")
        lines.append("")
    return "\n".join(lines)


def attributes_of(model: Any) -> dict[str, str]:
    """What the docstrings of a model, and of those that it is made from, say about its attributes."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__[:-1]):
        section = (one.__doc__ or "").partition("Attributes:")[2]
        for names, text in re.findall(r"^ {8}([a-z_][\w, ]*): (.*?)(?=^ {8}\S|\Z)", section, re.MULTILINE | re.DOTALL):
            found |= dict.fromkeys(re.split(r", ", names), " ".join(text.split()))
    return found


def _prose(text: str) -> str:
    code = re.sub(
        r"``(.*?)``|:\w+:`~?(.*?)`",
        lambda found: f"`{found[1] or found[2].rpartition('.')[2]}`",
        " ".join(text.split()),
    )
    return "".join(part if part.startswith("`") else _escape(part) for part in re.split(r"(`[^`]*`)", code)).replace(
        "\\\\|", "|"
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _type_of(field: dict[str, Any], document: dict[str, Any]) -> str:
    """The type of a key in words."""
    if "$ref" in field:
        target = document["$defs"][field["$ref"].rpartition("/")[2]]
        return _type_of(target, document) if "enum" in target else "mapping"
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_type_of(one, document) for one in options if one.get("type") != "null"))
    if "const" in field or "enum" in field:
        return ", ".join(f"`{_shown(one).strip(chr(34))}`" for one in field.get("enum", [field.get("const")]))
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return f"list of {_type_of(field['items'], document)}"
    words = {"object": "mapping", "boolean": "true or false", "string": "text", "array": "list"}
    return words.get(field.get("type", ""), field.get("type", "any"))


def formats_page() -> str:
    """Each format: its files, and how to check and clean them."""
    from datacheck.format_table import BUILT_IN

    lines = [
        "# Every format",
        "",
        "What is checked and written, and how values are named: [formats](../formats.md).",
        "",
    ]
    for record in sorted(BUILT_IN.values(), key=lambda one: one.title.lower()):
        if not record.source or not (record.suffixes or record.folder):
            continue
        files = " ".join(f"`{suffix}`" for suffix in record.suffixes) or "a folder"
        path = f"data/x{record.suffixes[0]}" if record.suffixes else "data/x"
        output = record.written_as or (record.name if record.sink else "")
        lines += [
            f"## {record.title}",
            "",
            f"Files: {files}. " + (f"Cleaned files are `{output}`." if output else "Checked only."),
            "",
        ]
        lines += ["```sh", f"datacheck scan {path}", f"datacheck rows {path} --where DC101", "```", ""]
        if output:
            rules = "clean: [{action: drop_row, codes: DC1}]\notherwise: quarantine\noutput: {path: out/clean}"
            lines += ["```yaml", f"inputs: {{train: {path}}}", rules, "```", ""]
    return "\n".join(lines)


def trainer_sections() -> Iterator[str]:
    for module in TRAINERS:
        path = ROOT / "datacheck" / module
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        yield f"## datacheck.{module}\n"
        for name in _public_names(ast.parse(path.read_text(encoding="utf-8"))):
            yield f"::: datacheck.{module}.{name}\n"


def _public_names(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []
