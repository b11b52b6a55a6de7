"""A gallery beyond one machine: Ray embeds and hashes it, a Valkey Cluster serves it."""
