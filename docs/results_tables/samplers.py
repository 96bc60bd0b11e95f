"""Tables of the samplers: which there are, and what they cost."""

from samplers import ENTRIES

from . import cells


def samplers_table() -> str:
    """Lists the registry: name, job, purpose, whether the loss stays unbiased, cost, source."""
    costs = cells.read("sampler_costs_cpu")["samplers"]
    rows = []
    for name, entry in ENTRIES.items():
        unbiased = "yes" if entry.is_unbiased else "no"
        cost = _cost_cell(costs[name]) if name in costs else "not measured"
        rows.append([f"`{name}`", entry.kind, entry.summary, unbiased, cost, entry.source])
    return cells.table(["name", "chooses", "what it does", "unbiased", "cost", "source"], rows)


def _cost_cell(cost: dict) -> str:
    kept = "under 0.1" if cost["megabytes"] < 0.1 else f"{cost['megabytes']:.3g}"
    return f"{cost['milliseconds']:.2g} ms, {kept} MB"


def sampler_speed_table() -> str:
    """Draw and update against peers; wrong ones are marked."""
    found = cells.read("samplers_cpu")
    drift = {name: error for name, error in found["drift_of_total"].items() if error > 1e-5}
    sizes = sorted({row["log2_items"] for row in found["rows"]})
    tables = []
    for batch in sorted({row["batch"] for row in found["rows"]}):
        rows = []
        for name in dict.fromkeys(row["sampler"] for row in found["rows"]):
            times = []
            for size in sizes:
                case = [
                    row
                    for row in found["rows"]
                    if (row["sampler"], row["log2_items"], row["batch"]) == (name, size, batch)
                ]
                times.append(_speed_cell(case[0]) if case else "")
            rows.append([name, *times, _faults(name, drift)])
        head = [f"batch {batch}", *(f"2^{size}" for size in sizes), "total"]
        tables.append(cells.table(head, rows))
    return "\n\n".join(tables)


def _speed_cell(row: dict) -> str:
    mark = "" if row["draws_are_correct"] else " **wrong**"
    apart = (row["draw_milliseconds"], row["update_milliseconds"])
    return f"{' + '.join(map(cells.short, apart))}, {cells.short(row['step_milliseconds'])}{mark}"


def _faults(name: str, drift: dict[str, float]) -> str:
    return f"off by {100 * drift[name]:.0f} %" if name in drift else ""


def image_fitting_table() -> str:
    """One picture fitted with every way to choose pixels, paired seeds."""
    pictures = cells.read("image_fitting_cpu")["pictures"]
    rows, where, marks = [], [], []
    for picture, found in pictures.items():
        marks = list(found["seconds_of_uniform"])
        for name, values in found["samplers"].items():
            steps, seconds = values["at_steps"], values["at_seconds"]
            gains = [_gain(steps[marks[-1]]), _gain(seconds[marks[-1]])]
            rows.append(
                [
                    picture,
                    name,
                    *(cells.spread(steps[mark]) for mark in marks),
                    *(gains if name != "uniform" else ["", ""]),
                    f"{values['cpu_seconds']['mean']:.0f}",
                ]
            )
            errors = values["errors"]
            keys = ("psnr_flat", "psnr_fine", "median", "percentile_99", "worst")
            share = f"{100 * errors['share_of_worst_percent']:.0f} %"
            where.append([picture, name, *(f"{errors[key]:.1f}" for key in keys), share])
    thousands = [f"{int(mark) // 1000}k" for mark in marks]
    head = ["picture", "pixels by", *(f"PSNR at {mark}" for mark in thousands)]
    head += [f"gain at {thousands[-1]}", "gain at equal seconds", "CPU s"]
    head_where = ["picture", "pixels by", "PSNR, flat half", "PSNR, fine half", "median error"]
    head_where += ["99th percentile", "worst", "share of worst 1 %"]
    return f"{cells.table(head, rows)}\n\n{cells.table(head_where, where)}"


def _gain(value: dict) -> str:
    """A paired gain in dB; in bold when the 95 % interval leaves out zero."""
    text = f"{value['gain']:+.2f}"
    return f"**{text}**" if value["outcome"] in ("better", "worse") else text


def random_bits_table() -> str:
    """Milliseconds per draw of random words."""
    rows = [
        [
            str(row["words"]),
            cells.short(row["jax_milliseconds"]),
            cells.short(row["unrolled_milliseconds"]),
            f"{row['jax_milliseconds'] / row['unrolled_milliseconds']:.1f}",
        ]
        for row in cells.read("random_bits_cpu")["rows"]
    ]
    return cells.table(["words", "`jax.random` (ms)", "written out (ms)", "times"], rows)


TABLES = {
    "random_bits": random_bits_table,
    "samplers": samplers_table,
    "sampler_speed": sampler_speed_table,
    "image_fitting": image_fitting_table,
}
