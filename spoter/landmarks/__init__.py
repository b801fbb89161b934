"""Landmarks: clips, pose estimators, layouts (selections of landmarks), and normalization."""
