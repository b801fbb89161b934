"""The load generator and its requests."""
