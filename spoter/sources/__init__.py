"""Clips in files and folders."""
