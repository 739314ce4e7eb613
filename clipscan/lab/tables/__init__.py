"""The rows of one or several runs of the laboratory as Markdown pages and plots (`clipscan lab tables`)."""

from clipscan.lab.tables.write_pages import write_pages

__all__ = ["write_pages"]
