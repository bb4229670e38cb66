import subprocess
import sys
from pathlib import Path

import pytest

from launch.extensions import extensions_cache
from launch.machine import extensions_folder
from pipeline.errors import RunError


def test_a_build_lock_left_by_a_killed_job_is_removed(tmp_path: Path) -> None:
    lock = tmp_path / "cache" / "fused_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with extensions_cache(tmp_path / "cache"):
        assert not lock.exists()


def test_a_build_lock_of_a_running_job_stays(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from launch.extensions import extensions_cache\n"
        f"with extensions_cache(Path({str(tmp_path)!r})):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        lock = tmp_path / "fused_adam" / "lock"
        lock.parent.mkdir()
        lock.touch()
        with extensions_cache(tmp_path):
            assert lock.exists()
        other.communicate()
    with extensions_cache(tmp_path):
        assert not lock.exists()


def test_an_unwritable_cache_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="set TORCH_EXTENSIONS_DIR to a folder"), extensions_cache(tmp_path / "file"):
        pytest.fail("the cache was opened")


def test_the_cache_is_where_the_desktop_standard_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert extensions_folder().parent == tmp_path / "tarmac" / "torch_extensions"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert extensions_folder().parent == tmp_path / "home" / ".cache" / "tarmac" / "torch_extensions"
