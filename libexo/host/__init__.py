"""The ground libexo stands on: `base.py` is the seam, a real process or a simulated thread is below it."""
