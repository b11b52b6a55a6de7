"""Commands to the servers of a Valkey Cluster."""
