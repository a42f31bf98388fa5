"""W&B, MLflow, TensorBoard, and what keeps a run alive when they fail."""
