"""What a run reads: its plan from a config, the feed of its batches, and the table that tells both beforehand."""
