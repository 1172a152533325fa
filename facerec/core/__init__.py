"""What every room shares: errors, the batch, protocols, the input specification, seeding, the run log."""
