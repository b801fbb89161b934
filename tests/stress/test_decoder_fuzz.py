"""The coverage-guided fuzzer runs, each target in a process of its own, and tells what it did."""

from __future__ import annotations

import pytest

from stress.decoder_fuzz import fuzz


@pytest.mark.slow
def test_a_short_run(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    outcome = fuzz("npy", tmp_path, runs=2000)
    assert outcome.executions >= 2000 and outcome.covered > 30, outcome.log[-2000:]
    # How slow an input is depends on what else the machine does.
    assert [path for path in outcome.findings if not path.name.startswith("slow-unit")] == []
