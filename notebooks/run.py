"""Executes notebooks headless, each in a fresh process, and says how long they took.

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
        result = subprocess.run([sys.executable, "-c", code_of(path)], env=environment, check=False)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s", flush=True)
        if result.returncode:
            failed.append(path.name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
