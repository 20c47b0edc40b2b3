"""The job: units, who runs them, what becomes of their rows, and how the output is published."""
