from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The root folder of the checkout."""
