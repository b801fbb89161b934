"""Attacks on servers that the attack itself starts, on loopback: bounded, repeatable, with nothing left behind."""
