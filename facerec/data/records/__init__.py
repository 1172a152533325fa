"""RecordIO files: frames, index, and what InsightFace and im2rec keep in them."""
