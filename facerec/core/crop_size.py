"""The size of aligned face crops: what the field uses, and the keys that set another."""

DEFAULT_SIZE_PX = (112, 112)
"""Height and width of a crop where nobody says otherwise."""


def size_keys(size_px: tuple[int, int]) -> str:
    """The overrides that set a height and a width, such as "input.height_px=112 input.width_px=96"."""
    return f"input.height_px={size_px[0]} input.width_px={size_px[1]}"
