"""References to Python objects: ``package.module:Name``."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Final

from datacheck.errors import SchemaError, nearest_name
from datacheck.text import plain

#: The form of a reference.
REFERENCE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


def import_reference(reference: str) -> Any:
    """Import the object that ``package.module:Name`` names; raises ``SchemaError``.

    The current folder is on the import path, as it is for ``python -m``.
    """
    module_name, _, attributes = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        wanted = error.name or module_name
        if module_name == wanted or module_name.startswith(f"{wanted}."):
            problem = f"no such file, and no module named '{wanted}'"
        else:
            problem = f"the module '{module_name}' needs '{wanted}', which is not installed"
        raise SchemaError(reference, problem) from None
    except Exception as error:  # whatever the user's own module raises is a fault of the configuration
        kind = type(error).__name__
        raise SchemaError(reference, f"importing '{module_name}' failed: {kind}: {plain(str(error))}") from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            hint = nearest_name(attribute, [name for name in dir(found) if not name.startswith("_")])
            raise SchemaError(reference, f"'{module_name}' has no attribute '{attribute}'{hint}")
        found = getattr(found, attribute)
    return found
