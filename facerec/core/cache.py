"""Where facerec keeps what it can make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$FACEREC_CACHE, else ~/.cache/facerec; it may not be there yet."""
    return Path(os.environ.get("FACEREC_CACHE") or "~/.cache/facerec").expanduser()
