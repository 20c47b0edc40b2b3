"""What the data must be: the model, its YAML form, and pandera both ways."""

from datacheck.schema.loading import SchemaLike, parse_schema
from datacheck.schema.model import Expression, Field, Schema

__all__ = ["Expression", "Field", "Schema", "SchemaLike", "parse_schema"]
