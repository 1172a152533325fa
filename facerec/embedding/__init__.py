"""From images to embeddings: models, and the one loop that embeds many images."""
