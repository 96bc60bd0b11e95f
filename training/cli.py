"""The command line: finds the command, parses its flags, runs it, and turns errors into one line.

Exit codes: 0 done, 1 a check found something (doctor), 2 wrong input or a failed run, 130
interrupted.
"""

import errno
import os
import sys
import traceback
import typing
from collections.abc import Sequence

from . import commands

_INTRO = """Training should spend its effort where the error is.

[bold]Start here[/bold]
  hardlight compare nerf --data synthetic:detail   two samplers on a small scene, minutes on a CPU
  hardlight nerf --data FOLDER                     train on your images, results in runs/
  hardlight render RUN, hardlight view RUN         look at what came out
"""


EXPECTED_ERRORS = (ValueError, OSError, MemoryError, RuntimeError, ModuleNotFoundError)
"""Bad input and failed runs; anything else is a fault of the program and shows its trace."""


_MEMORY_WORDS = ("resource_exhausted", "out of memory", "out_of_memory")
_MEMORY_ADVICE = (
    "Less memory is needed by nerf with fewer --rays, a smaller --set marching.budget= or "
    "loop.rays_per_chunk=, or a larger --downscale; by motion with fewer --envs; by voxels with a "
    "smaller --size"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            _print_help()
            return 0
        if words[0] == "--version":
            from importlib import metadata

            print(f"hardlight {metadata.version('hardlight')}")
            return 0
        jobs = [entry for entry in commands.ENTRIES if entry.words[0] == words[0]]
        if (
            words[1:] in (["-h"], ["--help"])
            and all(len(entry.words) > 1 for entry in jobs)
            and jobs
        ):
            _print_help(jobs)
            return 0
        entry, flags = commands.find(words)
        command = _parse(entry, flags)
        return command.run()
    except KeyboardInterrupt:
        _print_error("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except EXPECTED_ERRORS as error:
        if is_debug:
            traceback.print_exc()
        _print_error(one_line(error), hint="" if is_debug else "--debug shows where")
        return 2


def _parse(entry: commands.Entry, flags: list[str]) -> commands.Command:
    import tyro

    kind = entry.load()
    try:
        return tyro.cli(
            kind,
            prog="hardlight " + " ".join(entry.words),
            args=_join_repeated(kind, flags),
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands),
        )
    except SystemExit as leaving:
        if not leaving.code:  # help was asked for
            print(f"examples:{kind.examples}")
        raise


def _join_repeated(kind: type, flags: list[str]) -> list[str]:
    """Brings the values of a flag that takes several and is given more than once together.

    The parser would keep the last ones only.
    """
    hints = typing.get_type_hints(kind).items()
    several = {field.strip("_") for field, hint in hints if typing.get_origin(hint) is tuple}
    rest: list[str] = []
    joined: dict[str, list[str]] = {}
    words = rest
    for word in flags:
        name, equals, value = word.partition("=")
        field = name.removeprefix("--").replace("-", "_")
        if word.startswith("--") and field in several:
            words = joined.setdefault(field, [name])
            words += [value] if equals else []
        else:
            words = rest if word.startswith("--") else words
            words.append(word)
    return rest + [word for words in joined.values() for word in words]


def _print_help(entries: Sequence[commands.Entry] = commands.ENTRIES) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        "[bold]hardlight[/bold] COMMAND [flags]        each command explains itself with --help"
    )
    console.print()
    if len(entries) == len(commands.ENTRIES):
        console.print(_INTRO)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for entry in entries:
        table.add_row(f"[bold]{' '.join(entry.words)}[/bold]", entry.summary)
    console.print(table)
    console.print("\n--debug shows the full trace of an error; --version prints the version.")


def one_line(error: BaseException) -> str:
    """What an error says, with the file it is about, in one line.

    Where memory ran out it ends in the settings that need less.
    """
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split())
    if _is_out_of_memory(error, text) and _MEMORY_ADVICE not in text:
        text = f"{text.rstrip('.')}. {_MEMORY_ADVICE}"
    return text


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """XLA says so in words; the system and NumPy have kinds of their own."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(word in text.lower() for word in _MEMORY_WORDS)


def _print_error(message: str, *, hint: str = "") -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error: ", "bold red"), (message, "red"))
    if hint:
        line.append(f"  ({hint})", style="dim")
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)


if __name__ == "__main__":
    sys.exit(main())
