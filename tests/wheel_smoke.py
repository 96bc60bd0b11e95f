"""Builds the wheel, installs it in an empty environment, and uses it from another folder.

A packaging fault (a missing package, a file left out) cannot hide behind the checkout this way.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USE = """
import samplers, scenes, nerf, voxels, motion, training
from scenes import analytic
assert "checkout" not in training.__file__
print(analytic.posed_images("spheres", num_train=1, num_test=1, size=8).train.images.shape)
"""


def run(*command, **options):
    """Runs a command and fails loudly."""
    subprocess.run([str(word) for word in command], check=True, **options)


def main():
    """Builds, installs, imports, asks for help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", type=Path, required=True)
    constraints = parser.parse_args().constraints.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", work / "dist", ROOT)
        (wheel,) = (work / "dist").glob("*.whl")
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", "-c", constraints, wheel)
        run(python, "-c", USE.replace("checkout", str(ROOT)), cwd=work)
        run(work / "venv" / "bin" / "hardlight", "--help", cwd=work)
    print("wheel smoke test passed")


if __name__ == "__main__":
    main()
