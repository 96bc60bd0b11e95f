"""Readers and writers of robots and motion clips; the only files this room touches."""
