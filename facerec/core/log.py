"""facerec's logger, and the destinations of its messages."""

import logging
import sys
from pathlib import Path

LOGGER = logging.getLogger("facerec")


def log_to(path: Path | None, *, level: int = logging.INFO) -> None:
    """Sends facerec's log messages to standard error, and to a file if one is given."""
    for handler in LOGGER.handlers[:]:
        LOGGER.removeHandler(handler)
        handler.close()
    LOGGER.setLevel(level)
    LOGGER.propagate = False
    screen = _AboveTheBar(sys.stderr)
    screen.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.addHandler(screen)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        LOGGER.addHandler(file)


class _AboveTheBar(logging.StreamHandler):
    """Writes through tqdm, so that a message does not break the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)  # the stream of now, as in a notebook's next cell
