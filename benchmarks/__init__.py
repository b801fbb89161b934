"""Measures what requests, models and servers cost: `make bench`. Timings live here, never in tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout
MODEL = ROOT / "models" / "dgs11"  # the model folder that is measured by default
