"""What stands behind a detector's score: its errors, curves, confusions and pictures."""
