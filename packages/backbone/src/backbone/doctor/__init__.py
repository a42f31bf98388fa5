"""What is wrong with a data set, told before a training is wasted on it."""
