"""The HTTP surface: a public listener that takes deliveries, an internal one that shows series."""
