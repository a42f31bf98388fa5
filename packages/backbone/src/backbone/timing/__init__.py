"""How fast a training and an inference are, what they take, and what binds them."""
