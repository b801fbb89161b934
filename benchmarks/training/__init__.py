"""Benchmarks of accuracy: training recipes and unknown signs."""
