"""Aligns photos to crops: the five-point template, the similarity transform, the warp.

The room is also a function: `facerec.align(photo, landmarks=...)` calls `facerec.align.images.align_images`.
"""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package that can be called. `import facerec.align.crops` would replace a function of the package's name."""

    def __call__(self, images: Any, **options: Any) -> Any:
        """Aligns photos to crops; see `facerec.align.images.align_images`."""
        from facerec.align.images import align_images

        return align_images(images, **options)


sys.modules[__name__].__class__ = _Room
