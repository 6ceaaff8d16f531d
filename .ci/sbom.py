"""Prints an SBOM in CycloneDX's format of what is installed beside the Python that runs this. The same
packages give the same bytes."""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from typing import Any

APPLICATION = "pelorus-gateway"


def sbom(installed: list[Distribution]) -> dict[str, Any]:
    """The document: the gateway, and the packages that it brings."""
    components = sorted(map(_component, installed), key=lambda one: str(one["name"]))
    (application,) = (one for one in components if one["name"] == APPLICATION)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**application, "type": "application"}},
        "components": [one for one in components if one is not application],
    }


def _component(one: Distribution) -> dict[str, Any]:
    """One package, under the name that a package index has for it."""
    name = re.sub(r"[-_.]+", "-", one.name).lower()
    purl = f"pkg:pypi/{name}@{one.version}"
    found = {"type": "library", "bom-ref": purl, "name": name, "version": one.version, "purl": purl}
    # Older metadata tell the licence in a text of any length and form, which is no name of one.
    if "License-Expression" not in one.metadata:
        return found
    return {**found, "licenses": [{"expression": one.metadata["License-Expression"]}]}


if __name__ == "__main__":
    json.dump(sbom(list(distributions())), sys.stdout, indent=2, sort_keys=True)
    print()
