"""Profile data in one streaming pass, to infer schemas and compare datasets."""
