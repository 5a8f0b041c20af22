"""Models that the bench can load: classical ones, published ones through diffusers, and those of a user."""
