"""What every task's training shares: optimizers, schedules, averaging, progress, trackers."""
