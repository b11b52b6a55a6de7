"""A gallery beyond one machine: Ray embeds images into parts, and searches shards made of these."""
