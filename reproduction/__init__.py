"""The paper's evaluation: every method it names, its tables and figures (extra: paper)."""
