"""Measure the cost of requests, models and servers: `make bench`. Tests contain no timings."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout
MODEL = ROOT / "models" / "dgs11"  # the default model folder of every benchmark
