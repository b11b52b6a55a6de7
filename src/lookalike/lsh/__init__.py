"""Locality-sensitive hashing for the cosine: arrays in, arrays out."""

from lookalike.lsh.exact import Neighbors
from lookalike.lsh.index import LSHIndex
from lookalike.lsh.settings import LSHSettings, SearchSettings

__all__ = ["LSHIndex", "LSHSettings", "Neighbors", "SearchSettings"]
