"""What all rooms share: errors, the batch, protocols, the input specification, seeding, the run log."""
