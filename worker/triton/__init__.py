"""Triton's model configuration: read from config.pbtxt or JSON into a manifest, and written back as JSON."""
