"""Training on a few labelled rows: self-training and cross-validation."""
