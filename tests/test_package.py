"""The public names of `spoter`, and the modules that the import loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import spoter
from tests import ROOT


def test_importing_the_package_imports_no_library():
    probe = "import sys, spoter; print([name for name in ('numpy', 'torch', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name", ["AsyncClient", "Client", "Clip", "InputError", "Recognizer", "SpoterError", "load_layout"]
)
def test_public_name_can_be_imported(name):
    assert getattr(spoter, name).__name__ == name
    assert name in spoter.__all__ and name in dir(spoter)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="absent"):
        spoter.absent  # noqa: B018
