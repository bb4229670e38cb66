import os
import sys
from unittest.mock import patch

import pytest

from data_prep.executors.ray import RayTasks
from pipeline.config.prep.executors import RayExecutor
from pipeline.errors import MissingDependencyError


@pytest.mark.parametrize("address", [None, "auto"])
def test_without_ray_the_install_command_is_told(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told = pytest.raises(MissingDependencyError, match=r"pip install 'tarmac\[ray\]'")
    with patch.dict(os.environ), told:
        RayTasks(RayExecutor(type="ray", address=address), 1).__enter__()
