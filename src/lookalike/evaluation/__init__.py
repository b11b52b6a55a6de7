"""Measure retrieval: splits, the paper's metrics. NumPy only."""
