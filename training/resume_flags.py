"""What may stand beside --resume."""

import dataclasses
from typing import Any


def refuse_others(command: Any, *, besides: tuple[str, ...] = (), what: str = "run") -> None:
    """Refuses flags beside --resume, which would change nothing.

    Args:
      besides: fields that may be given, beside `resume`.
      what: that goes on.
    Raises:
      ValueError: naming the flags.
    """
    if command.resume is None:
        return
    others = [
        f"--{field.name.rstrip('_').replace('_', '-')}"
        for field in dataclasses.fields(command)
        if field.name not in ("resume", *besides) and getattr(command, field.name) != field.default
    ]
    if others:
        raise ValueError(f"a {what} goes on as it was started; drop {', '.join(others)}")
