"""One log format for every process; the rank is in it, and only rank 0 speaks below warnings."""

import logging
import sys
import warnings

from pipeline.runtime.ranks import Ranks


def set_up_logging(ranks: Ranks, level: int = logging.INFO) -> None:
    """Send this process's log to standard error."""
    prefix = f"[rank {ranks.rank}] " if ranks.world_size > 1 else ""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")  # about calls inside libraries
    handler = _StandardError()
    handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(levelname).1s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tarmac").setLevel(level if ranks.is_main else logging.WARNING)


class _StandardError(logging.Handler):
    """Writes to what standard error is at the moment: a bar on a terminal takes its place to stay below the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")  # one write: ranks share it
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def get_logger(name: str) -> logging.Logger:
    """The logger of one part of Tarmac."""
    return logging.getLogger(f"tarmac.{name}")
