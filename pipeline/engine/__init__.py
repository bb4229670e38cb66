"""DeepSpeed, and nothing else of Tarmac imports it: settings, the training step, checkpoints, memory."""
