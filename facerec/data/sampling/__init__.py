"""Which samples a step sees, in which order."""
