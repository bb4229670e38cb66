"""Checkpoints that are whole or absent.

`commit` is the protocol on plain files, `storage` what DeepSpeed writes and reads through, `saving` and `loading`
the two directions for a job of several ranks, `weights` the trained weights without a job.
"""
