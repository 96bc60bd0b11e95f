"""Hooks of the documentation site: its first page is the README, its reference is the docstrings.

A page is made for every public module and for every registered sampler, so none can be forgotten.
"""

import posixpath
import re
from pathlib import Path

import sampler_figures
import sampler_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from samplers import registry

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("samplers", "scenes", "nerf", "voxels", "motion", "training")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#]+)[^)]*\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lays out the navigation: guides, samplers, results, decisions, a page per module."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    config.nav = [
        {"Hardlight": "index.md"},
        {
            "Guides": [
                {"Samplers": "samplers.md"},
                {"Write a sampler": "new_sampler.md"},
                {"Data": "data.md"},
                {"Radiance fields": "nerf.md"},
                {"Block worlds": "voxels.md"},
                {"Motion": "motion.md"},
                {"The tracking task": "motion_task.md"},
                {"Comparing samplers": "compare.md"},
                {"Many devices": "many_devices.md"},
            ]
        },
        {"Samplers": [{name: f"samplers/{name}.md"} for name in registry.ENTRIES]},
        {"Results": "results.md"},
        {"Decisions": [f"adr/{name}" for name in decisions]},
        {"Reference": [{room: [_page(name) for name in _modules(room)]} for room in ROOMS]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the first page, the pages of samplers with their pictures, and the reference."""
    readme = (ROOT / "README.md").read_text().replace("](docs/adr)", "](adr/0001-sampler-shape.md)")
    files.append(File.generated(config, "index.md", content=readme.replace("](docs/", "](")))
    for name in registry.ENTRIES:
        files.append(
            File.generated(config, f"samplers/{name}.md", content=sampler_pages.page(name))
        )
        picture = f"images/samplers/{name}.png"
        files.append(File.generated(config, picture, content=sampler_figures.picture(name)))
    for room in ROOMS:
        for name in _modules(room):
            files.append(File.generated(config, _page(name), content=f"# {name}\n\n::: {name}\n"))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Turns links to files beside the documents into plain words."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        is_beside = target.startswith("..") or target in ("CONTRIBUTING.md", "LICENSE")
        return match[1] if is_beside else match[0]

    return _LINK.sub(kept, markdown)


def _modules(room: str) -> list[str]:
    """The public modules of a room, by their dotted names."""
    paths = sorted((ROOT / room).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def _page(name: str) -> str:
    return f"reference/{name.replace('.', '/')}.md"
