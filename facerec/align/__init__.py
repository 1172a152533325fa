"""Aligns photos to crops: the five-point template, the similarity transform, the warp."""
