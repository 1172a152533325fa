"""Reading records, folders and pair files; drawing synthetic faces; augmenting, sampling, loading."""
