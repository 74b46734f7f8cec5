"""The renderer of synthetic smears with known truth: optics, red cells, debris, placement."""
