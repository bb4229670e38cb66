"""Corpora at URLs: their shards are downloaded whole into a cache on this machine, and mapped there.

cache/
  shards/<source>/<name>.<sha256>.tar   also validation/ and test/; it has this name only once it is verified
  shards/<source>/<…>.<bytes>.partial   on its way; its bytes count as if they were there
  index/…                               each shard's index, built here from the verified tar
  corpora/<sha256 of manifest>/         manifest.json and tokenizer/
  locks/                                one file for each shard, one for all; the kernel drops the locks of the dead

All processes of a machine share it. Names hold checksums, so that nothing in it ever goes stale.
"""
