"""The original system's pipeline, rebuilt for comparison."""
