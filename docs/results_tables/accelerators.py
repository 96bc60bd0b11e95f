"""Tables of what was measured on a GPU."""

from . import cells


def gpu_table() -> str:
    """The jobs' rates and times on a GPU, each from the results file it names."""
    lego, walk = cells.read("nerf_lego_gpu"), cells.read("motion_walk_gpu")
    motion, samplers = cells.read("motion_gpu"), cells.read("samplers_gpu")
    strides = cells.read("voxels_gpu")["strides"]
    steps = motion["steps mjx"]["g1"]["4096"]
    train = motion["train mjx, 4096 copies"]["g1"]
    at = {
        row["log2_items"]: row
        for row in samplers["rows"]
        if row["sampler"] == "pyramid" and row["batch"] == 2**20
    }
    first = next(point for point in walk["curve"] if point[2] >= 0.95)
    rate = lego["rays_per_second_at_first"]
    shown = [point for point in lego["curve"] if point[0] in (1664, 3392, 4864, 9856)]
    shown.append(lego["curve"][-1])
    rows = [
        [
            "2^20 draws and writes, of 2^20, 2^26, 2^28 items",
            ", ".join(f"{at[size]['step_milliseconds']:.2f}" for size in (20, 26, 28)) + " ms",
            "samplers_gpu",
        ],
        [
            "lego at 400 x 400, rays per second in training",
            f"{rate / 1e6:.1f} million, {rate / lego['rays_per_step']:.0f} steps per second",
            "nerf_lego_gpu",
        ],
        [
            "the same, held-out PSNR after steps (seconds)",
            "; ".join(f"{step} ({seconds:.0f} s): {psnr:.1f} dB" for step, seconds, psnr in shown),
            "nerf_lego_gpu",
        ],
        *(
            [
                "fog of 64 x 48 x 64 at 512 x 512, a look at every crossing"
                if stride == "1"
                else f"the same, a look at every {stride} crossings",
                f"{row['forward_512_ms']:.1f} ms forward, "
                f"{row['forward_backward_512_ms']:.1f} ms with gradient",
                "voxels_gpu",
            ]
            for stride, row in strides.items()
        ),
        [
            "G1, 4,096 copies on MJX, control steps per second",
            f"{steps['env']:.0f} environment, {steps['bare']:.0f} bare `mjx.step`: "
            f"{100 * steps['overhead']:.0f} % more time; {train['control steps per second']:.0f} "
            "with learning",
            "motion_gpu",
        ],
        [
            "G1, a real five-second walk, beside another training",
            f"{100 * first[2]:.0f} % of starts survive 2 s after {first[1]:.0f} s "
            f"({first[0] / 1e6:.1f} million control steps), all after {walk['curve'][-1][1]:.0f} s",
            "motion_walk_gpu",
        ],
    ]
    table = cells.table(["one " + motion["device"], "", "results file"], rows)
    notes = [
        f"* `{name}`: {cells.read(name)['note']}"
        for name in dict.fromkeys(r[2] for r in rows)
        if "note" in cells.read(name)
    ]
    return f"{table}\n\n" + "\n".join(notes)


TABLES = {"gpu": gpu_table}
