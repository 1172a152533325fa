"""Hides the warnings that are for developers from the users of a verb."""

import os
import sys
import warnings

CATEGORIES: tuple[type[Warning], ...] = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
"""What a library warns its developers with: an API of it will change or go."""


def hide_developer_warnings() -> None:
    """Hides deprecations, in this process and in those that it starts; a user can do nothing about them.

    Python's own switch shows them: `python -W default -m facerec ...`, or PYTHONWARNINGS=default.
    """
    if sys.warnoptions:
        return
    for category in CATEGORIES:
        warnings.simplefilter("ignore", category)
    os.environ["PYTHONWARNINGS"] = ",".join(f"ignore::{category.__name__}" for category in CATEGORIES)
