"""The gate: what is checked, against which schema, which findings count or are known, and what is not read again."""
