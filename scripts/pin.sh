#!/usr/bin/env bash
# pin.sh: writes constraints.txt: the newest packages that fit together, found without installing them.
# Run it with the lowest Python that SpotScope supports, so that one file serves every later one.
set -euo pipefail
cd "$(dirname "$0")/.."
"${PYTHON:-.venv/bin/python}" - <<'PY'
import json
import subprocess
import sys
from pathlib import Path

HEAD = """\
# Versions that were tested together; `make` installs with them. Made by scripts/pin.sh.
# A package that another platform or Python needs besides these is free.
"""
report = subprocess.run(
    [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
     "--editable", ".[pyqt6]", "--group", "dev", "pip"],
    check=True, stdout=subprocess.PIPE,
).stdout
found = {}
for item in json.loads(report)["install"]:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    if name.lower() != "spotscope":
        # A local build (1.2+cpu) stands for the release that registries hold.
        found[name.lower().replace("_", "-").replace(".", "-")] = version.split("+")[0]
lines = [f"{name}=={version}\n" for name, version in sorted(found.items())]
Path("constraints.txt").write_text(HEAD + "".join(lines))
print(f"{len(lines)} versions pinned in constraints.txt")
PY
