"""Where metrics go: one interface, a file that is always written, Weights & Biases, and both together."""
