"""The config of data preparation."""
