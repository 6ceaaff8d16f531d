"""The compiler: what an author wrote in YAML becomes models, plans and diagnostics."""
