"""Turns images into embeddings: models, and the one loop that embeds many images."""
