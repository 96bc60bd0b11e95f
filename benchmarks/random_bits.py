"""Random words on CPU: `jax.random` with its default keys against `samplers.threefry`.

    python -m benchmarks.random_bits

Both give the same bits, which is checked. Medians of repeated calls of compiled programs. Writes
benchmarks/results/random_bits_BACKEND.json.
"""

import jax
import numpy as np

from benchmarks import measuring
from samplers.threefry import unrolled

_WORDS = (10_240, 65_536, 1_048_576, 5_242_880)


def main() -> None:
    """Measures every size and writes the results."""
    rows = []
    for count in _WORDS:
        programs = {
            "jax": lambda key, count=count: jax.random.bits(key, (count,)),
            "unrolled": lambda key, count=count: jax.random.bits(unrolled(key), (count,)),
        }
        row, found = {"words": count}, []
        for name, function in programs.items():
            program, key = jax.jit(function), jax.random.key(1)
            found.append(np.asarray(program(key)))
            seconds = measuring.median_seconds(lambda program=program, key=key: program(key))
            row[f"{name}_milliseconds"] = 1e3 * seconds
        row["is_equal"] = bool(np.array_equal(*found))
        print(row, flush=True)
        rows.append(row)
    measuring.write("random_bits", {"rows": rows})


if __name__ == "__main__":
    main()
