"""A collection in a Valkey Cluster: its keys, its generations, and searches in it."""
