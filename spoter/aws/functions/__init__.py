"""Lambda functions, and the builders of their zip files."""
