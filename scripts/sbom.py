"""Write bills of materials of the served software in CycloneDX format: `make sbom`.

build/sbom.json lists the packages of this environment that `pip install 'spoter[serve]'` needs, with their licenses and
dependencies; build/sbom-image.json lists the packages pinned for the image. The files have no time and no serial
number, so the same packages give the same bytes. SECURITY.md describes what the files do not contain.
"""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build"
PYPROJECT = ROOT / "pyproject.toml"


class SbomError(Exception):
    """A bill cannot be written; the text has the reason."""


def of_environment() -> dict:
    """Return the bill of the packages in this environment that serving needs."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    direct = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["serve"]]
    needs = _needs(direct)
    bill = _run("environment", sys.executable, "--pyproject", str(PYPROJECT))
    root = bill["metadata"]["component"]
    # An extra of the project can depend on other extras, and so on the project.
    needs[root["name"]] = needs.get(root["name"], set()) | {canonicalize_name(each.name) for each in direct}
    needs[root["name"]].discard(root["name"])
    bill["components"] = [each for each in bill["components"] if canonicalize_name(each["name"]) in needs]
    refs = {canonicalize_name(component["name"]): component["bom-ref"] for component in (root, *bill["components"])}
    bill["dependencies"] = [
        {"ref": refs[name], "dependsOn": sorted(map(refs.__getitem__, names))} for name, names in sorted(needs.items())
    ]
    return bill


def _needs(requirements: list[Requirement]) -> dict[str, set[str]]:
    """Return the names of all required packages with their dependencies, from the installed packages' metadata."""
    needs: dict[str, set[str]] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            listed = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            raise SbomError(f"{name} is not installed: run `make serve` or `pip install '.[serve]'`") from None
        extras = requirement.extras or {""}
        needed = [each for each in listed if not each.marker or any(each.marker.evaluate({"extra": e}) for e in extras)]
        names = needs.setdefault(name, set())
        waiting += [each for each in needed if canonicalize_name(each.name) not in names]
        names.update(canonicalize_name(each.name) for each in needed)
    return needs


def of_image() -> dict:
    """Return the bill of the image's Python packages, pinned in docker/requirements.txt."""
    return _run("requirements", str(ROOT / "docker" / "requirements.txt"), "--pyproject", str(PYPROJECT))


def _run(*arguments: str) -> dict:
    # A test validates the bills; validation takes a minute.
    options = ("--output-reproducible", "--of", "JSON", "--sv", "1.6", "--no-validate")
    command = [sys.executable, "-m", "cyclonedx_py", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        [*_, reason] = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SbomError(f"cyclonedx-py: {reason}")
    bill = json.loads(done.stdout)
    for component in (*bill["components"], *bill["metadata"]["tools"]["components"]):
        component.pop("externalReferences", None)  # home pages and issue trackers
    return bill


def main() -> int:
    """Write both bills; return the exit status."""
    OUT.mkdir(exist_ok=True)
    try:
        for name, bill in (("sbom.json", of_environment()), ("sbom-image.json", of_image())):
            (OUT / name).write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")
            print(f"{OUT / name}: {len(bill['components'])} packages")
    except SbomError as error:
        print(f"sbom.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
