"""Training recipes and unknown signs."""
