"""Checks the documents: links lead somewhere, Python examples run, tables are up to date."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def broken_links(path: Path) -> list[str]:
    """Lists relative links and pictures of a document that lead nowhere."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    return [
        f"{path.relative_to(ROOT)}: {target}"
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]


def main() -> int:
    """Prints every fault and returns how many there are, at most 1."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    faults = [fault for path in documents for fault in broken_links(path)]
    for path in documents:
        for example in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1]
                faults.append(f"{path.relative_to(ROOT)}: an example fails: {last}")
            else:
                print(done.stdout, end="")
    if subprocess.run([sys.executable, ROOT / "docs" / "tables.py", "--check"]).returncode:
        faults.append("tables: run python docs/tables.py")
    print("\n".join(faults) or f"{len(documents)} documents, no faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
