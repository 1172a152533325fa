"""From an encoded image to RGB pixels, and back: sets of crops are read as photos are."""

from facerec.align.photo_reader import decode_rgb, encode_jpeg, encode_png

__all__ = ["decode_rgb", "encode_jpeg", "encode_png"]
