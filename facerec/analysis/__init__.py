"""Uses embeddings to find faults of a data set: wrong labels, duplicate people, duplicate images."""
