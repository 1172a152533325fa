"""The plain softmax (arXiv 1801.07698, equation 1)."""

from typing import Unpack

from facerec.heads.head import Head
from facerec.heads.options import UnscaledOptions


class SoftmaxHead(Head):
    """Plain softmax on W x + b: no normalisation, no margin, no scale.

    Args:
        options: see `UnscaledOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    normalises = False

    def __init__(self, **options: Unpack[UnscaledOptions]) -> None:
        super().__init__(scale=1.0, **options)
