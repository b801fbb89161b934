"""Attacks on servers that the attack itself starts, on loopback: bounded, repeatable, with nothing left behind."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
