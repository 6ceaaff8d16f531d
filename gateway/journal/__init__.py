"""The journal's homes: one module for each database that it can live in."""
