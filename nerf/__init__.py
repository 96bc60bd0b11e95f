"""Radiance fields: encodings, fields, volume rendering and one jitted train step."""
