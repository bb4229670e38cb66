"""MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.3 and 3.4).

Two texts agree in one hash of a signature with a probability equal to the Jaccard similarity s of their sets of
shingles, and so in at least one of b bands of r hashes with 1 − (1 − s^r)^b.

Signatures are rensa's R-MinHash (after Dahlgaard, Knudsen and Thorup 2017, Fast Similarity Sketching), which hashes a
shingle a few times rather than once for each hash of the signature.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.shingles import shingles
from data_prep.documents.words import Hashes, mix
from pipeline.config.prep.recipe import MinHash
from pipeline.errors import MissingDependencyError

_SEED = 42


class BandHashes(NamedTuple):
    """What of some texts is compared."""

    hashes: Hashes
    """(texts, bands). Two texts that share one of these are taken for duplicates; bands never share by themselves."""
    has_words: NDArray[np.bool_]
    """(texts,). False for a text without a word: it is like no other, and its hashes mean nothing."""


def band_hashes(texts: Sequence[str], config: MinHash) -> BandHashes:
    """The bands' hashes of some texts, the same on any machine and in any company.

    Hand over some megabytes at a time: enough for numpy to be fast, and the memory is about 7 bytes a character.

    Raises:
        MissingDependencyError: rensa is not installed.
    """
    hashes, counts = shingles(texts, config.shingle_words)
    offsets = np.zeros(len(texts) + 1, np.uint64)
    np.cumsum(counts, out=offsets[1:])
    signatures = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets, config.bands * config.rows, _SEED
    )
    rows = np.array(signatures.to_rows(), np.uint32).reshape(len(texts), config.bands, config.rows)
    return BandHashes(_fold(rows), counts > 0)


def _fold(signatures: NDArray[np.uint32]) -> Hashes:
    """(texts, bands, rows) to a hash of each band's rows and number, (texts, bands)."""
    hashes = np.broadcast_to(np.arange(signatures.shape[1], dtype=np.uint64), signatures.shape[:2])
    for row in range(signatures.shape[2]):
        hashes = mix(hashes ^ signatures[:, :, row])
    return hashes


def _rensa() -> Any:
    # a worker has one core; by default rensa starts a thread for every core of the machine in each of them
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    try:
        import rensa
    except ImportError as error:
        raise MissingDependencyError("dedup.minhash needs rensa: pip install 'tarmac[minhash]'") from error
    return rensa
