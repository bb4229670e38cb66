"""Texts to token ids, fast and exactly as the tokenizer gives them."""
