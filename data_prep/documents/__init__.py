"""Documents between reading and sharding: on disk in the order of their hashes, and what is known of each."""
