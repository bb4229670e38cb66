"""Tarmac's training side: from tokenized corpora to trained, fine-tuned, evaluated and exported models."""
