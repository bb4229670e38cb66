"""Models: built by transformers from our config, weights a function of (seed, parameter name), adapters by peft."""
