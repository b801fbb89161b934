"""Capacity planning: how many servers a load needs, by simulation and measurement."""
