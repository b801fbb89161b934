"""The original system's pipeline, re-created for comparison."""
