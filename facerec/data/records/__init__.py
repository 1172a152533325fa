"""RecordIO files: frames, index, and the contents that InsightFace and im2rec give them."""
