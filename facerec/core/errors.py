"""The errors that a user can fix. The command line prints their message without a traceback and exits with 2, or with
1 after a `LostProcessError`."""

import difflib
from collections.abc import Iterable


class FacerecError(Exception):
    """Base of all errors for users.

    The message says what was given, what was expected, and what to do.
    """


class ConfigError(FacerecError):
    """A key, a value or a combination in the configuration that cannot work."""


class DataError(FacerecError):
    """A data set, a record, an image or a benchmark file that cannot be used."""


class ModelError(FacerecError):
    """A model file that cannot be opened, or weights that do not fit a network."""


class CheckpointError(FacerecError):
    """A checkpoint that is damaged, or that belongs to another run."""


class TrainingError(FacerecError):
    """Training cannot continue, for example after a loss that is not finite."""


class LostProcessError(TrainingError):
    """Another process of the same training has died, or does not answer. A restart resumes the training."""


class OtherProcessError(FacerecError):
    """An error of another process of the same training, which reports it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the middle of a message: "; did you mean m3?", or "." if no known word is similar."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else "."
