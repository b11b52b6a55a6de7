"""Measure retrieval: splits, the paper's metrics, its protocol on anybody's labelled images."""
