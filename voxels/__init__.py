"""Block worlds: grid, exact renderers, guidance."""
