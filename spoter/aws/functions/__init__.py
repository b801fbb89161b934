"""Lambda functions, and what packs them."""
