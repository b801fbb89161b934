"""Glosses learned from a few clips: prototypes, and the vocabulary of trained and enrolled glosses."""
