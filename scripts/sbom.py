"""Write what is served as bills of materials in CycloneDX's form: `make sbom`.

build/sbom.json has the packages of this environment that `pip install 'spoter[serve]'` brings, with their licences and
who needs whom; build/sbom-image.json those pinned for the image. Neither has a time or a serial number: the same
packages give the same bytes. What they cannot see, SECURITY.md says.
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
    """No bill can be written; the text says why."""


def of_environment() -> dict:
    """Return the bill of what serving needs, of all that is installed here."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    direct = [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["serve"]]
    needs = _needs(direct)
    bill = _run("environment", sys.executable, "--pyproject", str(PYPROJECT))
    root = bill["metadata"]["component"]
    # An extra of the project may name others of the project itself.
    needs[root["name"]] = needs.get(root["name"], set()) | {canonicalize_name(each.name) for each in direct}
    needs[root["name"]].discard(root["name"])
    bill["components"] = [each for each in bill["components"] if canonicalize_name(each["name"]) in needs]
    refs = {canonicalize_name(component["name"]): component["bom-ref"] for component in (root, *bill["components"])}
    bill["dependencies"] = [
        {"ref": refs[name], "dependsOn": sorted(refs[need] for need in needed)}
        for name, needed in sorted(needs.items())
    ]
    return bill


def _needs(requirements: list[Requirement]) -> dict[str, set[str]]:
    """Return every package that is needed, with those that it needs itself, by the installed packages' metadata."""
    needs: dict[str, set[str]] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            needed = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            raise SbomError(f"{name} not installed: make serve, or pip install '.[serve]'") from None
        extras = requirement.extras or {""}
        needed = [each for each in needed if not each.marker or any(each.marker.evaluate({"extra": e}) for e in extras)]
        names = needs.setdefault(name, set())
        waiting += [each for each in needed if canonicalize_name(each.name) not in names]
        names.update(canonicalize_name(each.name) for each in needed)
    return needs


def of_image() -> dict:
    """Return the bill of the image's Python packages, which docker/requirements.txt pins."""
    return _run("requirements", str(ROOT / "docker" / "requirements.txt"), "--pyproject", str(PYPROJECT))


def _run(*arguments: str) -> dict:
    # Validating all that is installed would take a minute; a test does it.
    options = ("--output-reproducible", "--of", "JSON", "--sv", "1.6", "--no-validate")
    command = [sys.executable, "-m", "cyclonedx_py", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        [*_, reason] = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SbomError(f"cyclonedx-py: {reason}")
    bill = json.loads(done.stdout)
    for component in (*bill["components"], *bill["metadata"]["tools"]["components"]):
        component.pop("externalReferences", None)  # where each has its home page and its issues
    return bill


def main() -> int:
    """Write both; return the exit status."""
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
