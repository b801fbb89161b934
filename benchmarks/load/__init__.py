"""The load generator and what it sends."""
