"""The labeller: its state as plain values, the pictures that it shows, and the widget."""
