"""The journal: the append-only store of deliveries and events, and its homes, one module for each database."""
