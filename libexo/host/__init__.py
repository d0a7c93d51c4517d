"""The ground libexo stands on: `base.py` is the seam; below it is a real process or a simulated thread."""
