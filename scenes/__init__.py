"""What the world looks like: cameras, rays, posed images, analytic scenes."""
