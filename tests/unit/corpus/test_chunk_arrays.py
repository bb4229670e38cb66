"""Arrays of shards, read without Python's parser."""

import ast
import io

import numpy as np
import pytest

from pipeline.corpus.chunk import npy_array, npy_bytes
from pipeline.corpus.index import INDEX_DTYPE


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i8", INDEX_DTYPE])
@pytest.mark.parametrize("size", [0, 1, 12_345])
def test_arrays_come_back(dtype, size, monkeypatch):
    array = np.zeros(size, dtype)
    array.view(np.uint8)[:] = np.arange(array.nbytes) % 251
    content = npy_bytes(array)
    monkeypatch.setattr(ast, "literal_eval", None)
    found = npy_array(content, np.dtype(dtype))
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    for bad in (content[:-1] if size else content[:100], content + b"0", content[:40], b""):
        with pytest.raises(ValueError, match="array"):
            npy_array(bad, np.dtype(dtype))


def test_other_arrays_are_refused():
    for other in (np.zeros(3, "<i4"), np.zeros((3, 1), "<u4"), np.zeros(3, ">u4")):
        buffer = io.BytesIO()
        np.save(buffer, other)
        with pytest.raises(ValueError, match="array"):
            npy_array(buffer.getvalue(), np.dtype("<u4"))
