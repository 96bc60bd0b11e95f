"""Tables about runs as such: long ones, and killed ones."""

from . import cells


def long_runs_table() -> str:
    """Memory, compilations, sums and logs of long runs."""
    found = cells.read("long_runs_cpu")
    rows = []
    for name in ("error_weighted", "failure_bins"):
        run = found[name]
        error = run[
            "largest_error_of_root" if name == "error_weighted" else "largest_error_of_counts"
        ]
        rows.append(
            [
                f"`{name}`, {run['updates']} updates",
                str(run["programs"] + run["compiled_after_first_call"]),
                f"{run['memory']['last'] / 2**20:.0f}",
                f"{run['memory']['growth'] / 2**20:+.2f} ± {run['memory']['scatter'] / 2**20:.2f}",
                f"{run['memory']['slope']:+.1f}",
                f"{error:.1e}",
            ]
        )
    run = found["nerf"]
    rows.append(
        [
            f"`hardlight nerf`, {run['steps']} steps in {run['minutes']:.0f} min",
            f"{run['compiled']}, {run['compiled_after_warm_up']} after the warm-up",
            f"{run['memory']['last'] / 2**20:.0f}",
            f"{run['memory']['growth'] / 2**20:+.2f} ± {run['memory']['scatter'] / 2**20:.2f}",
            f"{run['memory']['growth'] / (0.8 * run['steps']):+.1f}",
            "",
        ]
    )
    head = [
        "run",
        "programs compiled",
        "memory (MB)",
        "its trend (MB)",
        "bytes per step",
        "error of sums",
    ]
    sizes = run["bytes"]
    return (
        f"{cells.table(head, rows)}\n\nLogs of the last row: metrics.jsonl "
        f"{sizes['metrics_jsonl'] / 2**20:.2f} MB and TensorBoard events "
        f"{sizes['events'] / 2**20:.2f} MB for {run['rows']} rows, "
        f"{run['bytes_of_metrics_per_row']:.0f} and {run['bytes_of_events_per_row']:.0f} bytes "
        "each; "
        f"{sizes['num_checkpoints']} checkpoints of {sizes['checkpoints'] / 2**20:.1f} MB together."
    )


def faults_table() -> str:
    """Kills per job and what they cost."""
    rows = [
        [
            f"`hardlight {job}`",
            str(found["injected"]),
            str(found["survived"]),
            str(found["lost"]),
            str(found["repeated"]),
            "bit for bit the same" if found["is_same_end"] else "**another one**",
        ]
        for job, found in cells.read("faults_cpu")["kills"].items()
    ]
    return cells.table(["job", "kills", "survived", "steps lost", "steps repeated", "end"], rows)


def damaged_files_table() -> str:
    """What readers made of damaged copies, by kind of file."""
    rows = []
    for kind, damages in cells.read("damaged_files_cpu")["kinds"].items():
        spoiled = [found for how, found in damages.items() if how != "nan"]
        counts = [sum(one[name] for one in spoiled) for name in ("refused", "read", "failed")]
        numbers, failed = "", counts[2]
        if nan := damages.get("nan"):
            numbers = f"{nan['refused']} of {nan['refused'] + nan['read'] + nan['failed']}"
            failed += nan["failed"]
        rows.append([kind, *map(str, counts[:2]), numbers, str(failed)])
    head = ["file", "refused, naming it", "read", "numbers made NaN refused", "anything else"]
    return cells.table(head, rows)


TABLES = {
    "long_runs": long_runs_table,
    "faults": faults_table,
    "damaged_files": damaged_files_table,
}
