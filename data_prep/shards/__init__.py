"""Documents to shards."""
