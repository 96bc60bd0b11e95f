"""Readers and writers of posed-image formats; the only files in `scenes` that touch a disk."""

from .dispatch import load

__all__ = ["load"]
