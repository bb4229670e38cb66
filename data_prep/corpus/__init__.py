"""The corpus folder: what is there, what goes into it, what its manifest says."""
