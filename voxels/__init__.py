"""Block worlds: grid, splatting renderer, distillation."""
