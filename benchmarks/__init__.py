"""Where a request's time goes: `make bench`. Timings live here, never in tests."""
