"""Checkpoints that are whole or absent.

`commit` is the protocol on plain files; `fragments` knows how DeepSpeed lays state out, `tensors` and `index` how it
lies on disk; `saving`, `finding` and `loading` are for a job of several ranks, `weights` is without a job; `upload` and
`fetching` are for copies in object stores.
"""
