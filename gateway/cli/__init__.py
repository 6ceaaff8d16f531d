"""The commands: arguments, wiring and exit codes. The only place where everything meets."""
