"""Where data and output live."""
