"""Image classification: data, Lightning module, evaluation."""
