"""Hides warnings for developers from the users of a verb."""

import os
import sys
import warnings

CATEGORIES: tuple[type[Warning], ...] = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""Warnings with which a library tells developers that an API will change or disappear."""


def hide_developer_warnings() -> None:
    """Hides deprecation warnings, in this process and in those that it starts, because users cannot fix them.

    Python's own switch shows them: `python -W default -m facerec ...`, or PYTHONWARNINGS=default.
    """
    if sys.warnoptions:
        return
    for category in CATEGORIES:
        warnings.simplefilter("ignore", category)
    os.environ["PYTHONWARNINGS"] = ",".join(f"ignore::{category.__name__}" for category in CATEGORIES)
