"""What every task's data loading shares."""
