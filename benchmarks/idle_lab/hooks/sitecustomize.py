"""Python runs this at its start, where this folder is in its path."""

from idle_lab.marks import watch

watch()
