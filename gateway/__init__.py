"""Pelorus gateway: native webhooks in, software delivery metrics out, described by YAML."""
