"""What a training loop should look at next: pure-function samplers with explicit keys."""
