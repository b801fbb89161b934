"""Where a request's time goes: `make bench`. Timings live here, never in tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
