"""Being asked to stop from elsewhere: no signal reaches a job on other hosts, but a file in its folder does."""

import time
from pathlib import Path

_LOOK_SECONDS = 1.0


class StopFile:
    """The file `stop` of a run folder; one process of the job looks for it."""

    def __init__(self, folder: str | Path) -> None:
        """Nothing is looked for yet."""
        self._path = Path(folder) / "stop"
        self._looked_at = -_LOOK_SECONDS

    def ask(self) -> bool:
        """Put it there; whether nobody had yet. Raises OSError."""
        try:
            self._path.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def is_there(self) -> bool:
        """Whether somebody put it there; looked for once a second at most, as the folder may be far away."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        return self._path.exists()

    def take(self) -> None:
        """Remove it, so that the next start is not asked."""
        self._path.unlink(missing_ok=True)
