"""Exact differentiable rendering of block worlds: one meaning, several ways to compute it."""
