"""What every training run shares: optimizers, schedules, averaging, resuming, searches."""
