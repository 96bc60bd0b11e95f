"""Writes the tables of the documents from what they describe, between pairs of marker comments.

    python docs/tables.py            rewrite
    python docs/tables.py --check    fail when a document is not what the sources say

A table named NAME stands between `<!-- table:NAME -->` and `<!-- end -->`. Numbers come from
benchmarks/results, the list of samplers from their registry; nothing is typed by hand.
"""

import re
import sys
from pathlib import Path

from results_tables import accelerators, motion, nerf, runs, samplers, voxels

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/results.md", "docs/samplers.md")
TABLES = {
    **accelerators.TABLES,
    **samplers.TABLES,
    **nerf.TABLES,
    **motion.TABLES,
    **voxels.TABLES,
    **runs.TABLES,
}


def rewritten(text: str) -> str:
    """Replaces the body of every marked table."""

    def body(match: re.Match[str]) -> str:
        try:
            table = TABLES[match[1]]()
        except FileNotFoundError as error:
            table = f"Not measured yet: no {Path(error.filename).name}."
        return f"<!-- table:{match[1]} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- table:(\w+) -->.*?<!-- end -->", body, text, flags=re.DOTALL)


def main() -> int:
    """Rewrites the documents, or says which ones are stale."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        if not path.exists():
            continue
        before = path.read_text()
        after = rewritten(before)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(after)
    if stale:
        print("rewritten:" if "--check" not in sys.argv[1:] else "stale:", ", ".join(stale))
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
