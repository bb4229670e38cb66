"""A real SLURM and a real browser for all tests that want one."""

from collections.abc import Iterator

import pytest

from tests.system.chromium import Browser, chromium
from tests.system.slurm_cluster import SlurmCluster, slurm_cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Two nodes on this machine; commands find them through the environment."""
    with slurm_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as found:
        yield found
