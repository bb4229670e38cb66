"""Raw text in, a tokenized corpus out.

Read and clean, deduplicate, split, train a tokenizer, write shards. Every result is a pure function of the inputs and
the config: never of the number of workers, nor of when the work was interrupted.
"""
