"""Attacks on servers that the attack itself starts on loopback: bounded, repeatable, and without leftovers."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
MODEL = ROOT / "models" / "dgs11"
"""The model that attacked servers serve."""
