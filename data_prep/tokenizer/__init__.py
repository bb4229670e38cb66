"""Training and measuring the tokenizer."""
