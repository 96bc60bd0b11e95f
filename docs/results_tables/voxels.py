"""Tables of the block renderer."""

from . import cells

_SOFT = ("forward_ms", "forward_backward_ms")


def voxels_table() -> str:
    """Times of the block renderer and its peers."""
    found = cells.read("voxels_cpu")
    soft, hard, large = found["soft"], found["hard"], found["large"]

    def pair(part: dict, name: str) -> list[str]:
        return [f"{part[f'{name}_forward_ms']:.0f}", f"{part[f'{name}_forward_backward_ms']:.0f}"]

    rows = [
        ["soft 64 x 48 x 64 at 256 x 256", *(f"{soft[key]:.0f}" for key in _SOFT)],
        ["same, loops compiled by numba", *pair(soft, "with_numba")],
        ["same, naive half-voxel march in JAX", *pair(soft, "naive")],
        ["same, a plain march in numba", f"{soft['peer_numba_forward_ms']:.0f}", ""],
        ["hard at 512 x 512", *pair(hard, "hard")],
        ["same, first hit only", f"{hard['first_hit_ms']:.0f}", ""],
        ["same, Embree's first hit", f"{hard['embree_first_hit_ms']:.0f}", ""],
        ["hard 256 x 256 x 256 at 512 x 512", *pair(large, "hard")],
    ]
    peak = f"Peak memory of the last row: {large['peak_memory_gb']:.1f} GB."
    return f"{cells.table(['', 'forward (ms)', 'with gradient (ms)'], rows)}\n\n{peak}"


def voxels_samplers_table() -> str:
    """Ways to choose cameras early in a run, paired seeds."""
    return _cameras("voxels_samplers_cpu")


def voxels_samplers_whole_table() -> str:
    """Ways to choose cameras over whole runs, paired seeds."""
    return _cameras("voxels_samplers_whole_cpu")


def _cameras(name: str) -> str:
    rows, said = [], []
    columns = ("final", "at_equal_seconds", "area", "visible_right")
    for found in cells.read(name)["data"].values():
        for sampler, values in found["samplers"].items():
            numbers = [cells.spread(values[key]) for key in columns[:-1]]
            rows.append([f"`{sampler}`", *numbers, cells.spread(values[columns[-1]], 4)])
        said += [
            f"* {verdict['sentence']}"
            for verdict in found["verdicts"]
            if verdict["outcome"] in ("better", "worse")
        ]
    head = ["cameras by", "PSNR (dB)", "at equal time (dB)", "mean on the way (dB)"]
    head += ["visible cells right"]
    return "\n".join([cells.table(head, rows), "", *(said or ["No verdict is beyond chance."])])


def voxels_training_table() -> str:
    """Hidden worlds found again, and what words do to a world."""
    found = cells.read("voxels_training_cpu")
    rows = [
        [
            f"`{guide}`",
            str(row["seed"]),
            f"{100 * row['visible_right']:.1f} %",
            f"{row['psnr']:.1f}",
            f"{row['export_gap']:.1f}",
            f"{row['seconds']:.0f}",
        ]
        for guide in ("target", "mixture")
        for row in found[guide]
    ]
    head = ["guidance", "world", "visible cells right", "PSNR (dB)", "export gap (dB)", "s in all"]
    words = [
        [f"{row['prompt']}", *(f"{a:+.2f} to {b:+.2f}" for a, b in row["critic"].values())]
        for row in found["tiny"]
    ]
    names = list(found["tiny"][0]["critic"])
    second = cells.table(["prompt for `tiny`", *(f"critic's {name}" for name in names)], words)
    return f"{cells.table(head, rows)}\n\n{second}"


TABLES = {
    "voxels_training": voxels_training_table,
    "voxels_samplers": voxels_samplers_table,
    "voxels_samplers_whole": voxels_samplers_whole_table,
    "voxels": voxels_table,
}
