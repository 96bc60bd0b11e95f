"""Executes notebooks headless, each in a fresh process, and says how long they took.

One that takes more than five minutes has failed; each is made for one, on two cores.

    python notebooks/run.py [NOTEBOOK ...]

Cells run as plain Python with matplotlib drawing to nowhere, so nothing but the notebooks' own
imports is needed.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
_LIMIT = 300.0


def code_of(path: Path) -> str:
    """Joins the code cells of a notebook; each is preceded by its number, for errors.

    Raises:
      ValueError: when the notebook was committed with outputs.
    """
    parts = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        if cell["outputs"]:
            raise ValueError(f"{path}: cell {number} has outputs; clear them before committing")
        parts.append(f"# cell {number}\n" + "".join(cell["source"]))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Runs the named notebooks, or all; returns 1 if one failed."""
    asked = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    environment = {**os.environ, "MPLBACKEND": "agg"}
    failed = []
    for path in asked:
        began = time.perf_counter()
        command = [sys.executable, "-c", code_of(path)]
        try:
            code = subprocess.run(command, env=environment, check=False, timeout=_LIMIT).returncode
        except subprocess.TimeoutExpired:
            code = 1
        print(f"{path.name}: {time.perf_counter() - began:.0f} s", flush=True)
        if code:
            failed.append(path.name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
