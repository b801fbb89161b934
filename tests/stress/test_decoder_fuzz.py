"""The coverage-guided fuzzer runs a target in a separate process, and reports executions and coverage."""

from __future__ import annotations

import pytest

from stress.decoder_fuzz import fuzz


@pytest.mark.slow
def test_short_run(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    outcome = fuzz("npy", tmp_path, runs=2000)
    assert outcome.executions >= 2000 and outcome.covered > 30, outcome.log[-2000:]
    # Ignore slow inputs: the time of an input depends on the load of the machine.
    assert [path for path in outcome.findings if not path.name.startswith("slow-unit")] == []
