"""Readers and writers of block worlds and their cameras; nothing else here opens a file."""
