"""From photos to aligned crops: the five-point template, the similarity transform, the warp."""
