"""Profiles of data in one streaming pass, and what is made of them: inferred schemas, comparisons of data sets."""
