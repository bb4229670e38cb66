"""The form of a tokenized corpus on disk: the contract between `data_prep`, its writer, and training, its reader.

corpus/
  manifest.json                       what is there: versions, tokenizer, all files with sizes and checksums
  tokenizer/                          the tokenizer itself
  shards/<source>/<source>-000000.tar plain USTAR, one webdataset sample per chunk of tokens
  validation/<source>/…               the held-out split, same form
  test/<source>/…                     a second one, same form
  rejects/, dropped/, pairs/          bad records, dropped documents, instruction pairs
  stats.json                          figures of the documents, for people
  index/…/<source>-000000.idx.npy     where each chunk's tokens are in its tar; rebuilt when missing
"""
