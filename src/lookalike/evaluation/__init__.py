"""Measure retrieval: splits, the paper's metrics, its protocol on your own labelled images."""
