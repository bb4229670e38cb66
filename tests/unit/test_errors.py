import pickle
from pathlib import Path

from pipeline.data.corpora import LostTokensError
from pipeline.data.phases import DamagedChunk


def test_ranks_can_send_any_error() -> None:
    error = LostTokensError(Path("web-000001.tar"), (DamagedChunk("web", 1, 7),))
    error.on_all_ranks = True
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), found.lost, found.shard) == (type(error), str(error), error.lost, error.shard)
    assert found.on_all_ranks
