"""What embeddings say about a data set: labels that are wrong, people who occur twice, images that do."""
