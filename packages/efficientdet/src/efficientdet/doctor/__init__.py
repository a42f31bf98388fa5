"""What is wrong with a detection data set, and how well the anchors fit it."""
