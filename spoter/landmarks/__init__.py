"""Landmarks: clips, the estimators that find them, the layouts that select them, and their normalization."""
