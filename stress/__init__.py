"""Attacks on servers that the attack starts on loopback: limited in time, repeatable, and cleaned up at the end."""
