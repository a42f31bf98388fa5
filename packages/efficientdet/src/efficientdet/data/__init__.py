"""Detection data: flat annotation indexes, their readers, augmentation and loading."""
