"""The one training loop and its parts: optimizer, schedules, checkpoints."""
