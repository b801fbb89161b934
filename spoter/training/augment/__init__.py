"""Augmentation of clips."""
