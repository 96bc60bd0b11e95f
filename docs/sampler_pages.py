"""A page for every registered sampler, from the registry, its settings and the guide.

Nothing is written twice: what it is comes from the registry, the settings and their meaning from
the docstring of its config, how it works and when it wins from docs/samplers.md.
"""

import dataclasses
import itertools
import re
from pathlib import Path

import sampler_figures

from samplers import registry
from samplers.registry import Entry

GUIDE = Path(__file__).resolve().parent / "samplers.md"
_FROM_SIZES = ("num_items", "num_views", "rows", "cols", "batch_size", "clip_frames", "num_samples")
_LEAD = re.compile(r"^\*\*(.+?)\*\*", re.MULTILINE)
_LINK = re.compile(r"\]\((?!http|#)([^)]+)\)")


def page(name: str) -> str:
    """Writes the page of a sampler."""
    entry = registry.ENTRIES[name]
    module = entry.config.__module__
    facts = [
        ("chooses", entry.kind),
        ("unbiased with these settings", "yes" if entry.is_unbiased else "no"),
        ("probabilities", "exact" if entry.is_exact else "relative only"),
        ("needs at `init`", ", ".join(f"`{need}`" for need in entry.needs) or "nothing"),
        ("source", entry.source),
        ("module", f"[`{module}`](../reference/{module.replace('.', '/')}.md)"),
    ]
    return "\n".join(
        [
            f"# `{name}`\n",
            f"{entry.summary[0].upper()}{entry.summary[1:]}.\n",
            f"![What {name} draws](../images/samplers/{name}.png)\n",
            f"*{sampler_figures.caption(name)}*\n",
            "| | |\n|---|---|",
            *[f"| {what} | {value} |" for what, value in facts],
            "\n## How it works, when it wins and when it loses\n",
            _inside(_explained(name)),
            "\n## Settings\n",
            "| setting | default | |\n|---|---|---|",
            *[f"| `{field}` | {default} | {words} |" for field, default, words in _settings(entry)],
            "\n## Use\n",
            _use(name, entry),
        ]
    )


def _explained(name: str) -> str:
    """What the guide says of it; of the sampler it is a preset of where it has no words for it."""
    config = registry.ENTRIES[name].config
    found = [text for lead, text in _paragraphs() if name in _names(lead)]
    found = found or [text for lead, text in _paragraphs() if f"`{name}`" in lead][:1]
    if not found:
        base = next(other for other, entry in registry.ENTRIES.items() if entry.config is config)
        found = [text for lead, text in _paragraphs() if base in _names(lead)]
    return "\n\n".join(found)


def _paragraphs() -> list[tuple[str, str]]:
    """The guide's pieces that begin with a name in bold, up to the next or to a heading."""
    pieces = []
    for section in re.split(r"^## .*$", GUIDE.read_text(), flags=re.MULTILINE):
        edges = [*(match.start() for match in _LEAD.finditer(section)), len(section)]
        for start, stop in itertools.pairwise(edges):
            text = section[start:stop].strip()
            pieces.append((text.split("\n\n")[0], text))
    return pieces


def _names(lead: str) -> list[str]:
    found = _LEAD.match(lead)
    return re.findall(r"`(\w+)`", found[1]) if found else []


def _settings(entry: Entry) -> list[tuple[str, str, str]]:
    meaning = _attributes(entry.config.__doc__ or "")
    rows = []
    for field in dataclasses.fields(entry.config):
        value = entry.preset.get(field.name, field.default)
        is_given = field.name in _FROM_SIZES or value is dataclasses.MISSING
        default = "of the data" if is_given else f"`{value!r}`"
        rows.append((field.name, default, meaning.get(field.name, "").replace("|", "\\|")))
    return rows


def _attributes(docstring: str) -> dict[str, str]:
    """Reads the Attributes section of a docstring."""
    found: dict[str, str] = {}
    _, _, section = docstring.partition("Attributes:")
    name = ""
    for line in section.split("\n"):
        match = re.match(r"      (\w+): (.*)", line)
        if match:
            name, found[match[1]] = match[1], match[2].strip()
        elif name and line.startswith("        "):
            found[name] += " " + line.strip()
        elif line.strip():
            break
    return found


def _use(name: str, entry: Entry) -> str:
    if entry.kind == "rays":
        code = (
            "from samplers.registry import make_ray_sampler\n\n"
            f'sampler = make_ray_sampler("{name}", num_views=100, rows=800, cols=800, '
            "batch_size=4096)"
        )
        line = f"hardlight nerf --data FOLDER --sampler {name}"
    elif entry.kind == "motion":
        code = (
            "from samplers.registry import make_sampler\n\n"
            f'sampler = make_sampler("{name}", {{"clip_frames": (1500, 300), "batch_size": 4096}})'
        )
        line = f"hardlight motion --sampler {name}"
    else:
        sizes = {
            "views": '{"num_views": 100, "batch_size": 4}',
            "points": '{"num_samples": 64}',
        }[entry.kind]
        code = (
            "from samplers.registry import make_sampler\n\n"
            f'sampler = make_sampler("{name}", {sizes})'
        )
        line = f"hardlight voxels --sampler {name}" if entry.kind == "views" else ""
    parts = [f"```python\n{code}\n```"]
    if line and name != "semantic":
        parts.append(f"```\n{line}\n```")
    parts.append(
        "The four functions, and what a draw holds, are told in the [guide](../samplers.md); "
        "numbers are in the [results](../results.md)."
    )
    return "\n\n".join(parts)


def _inside(text: str) -> str:
    """Links seen from a folder below."""
    return _LINK.sub(r"](../\1)", text)
