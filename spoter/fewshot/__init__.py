"""Glosses learned from a few clips: prototypes, enrolled glosses, and the vocabulary of a model."""
