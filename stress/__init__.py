"""Attacks on servers that the attack itself starts on loopback: bounded, repeatable, and without leftovers."""
