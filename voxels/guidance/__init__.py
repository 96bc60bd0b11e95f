"""What tells a world how its pictures should look: all a guide gives is dL / d image."""
