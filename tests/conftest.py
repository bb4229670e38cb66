"""Tests marked `realdata` run when TARMAC_REALDATA names the folder of real data; they are deselected otherwise."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("tarmac", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tarmac")  # no test fails because a machine is slow or drew other examples


if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as of what a shell starts in the background; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    if os.environ.get("TARMAC_REALDATA"):
        return
    real = [item for item in items if item.get_closest_marker("realdata")]
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in real]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real data."""
    return Path(os.environ["TARMAC_REALDATA"]).resolve()
