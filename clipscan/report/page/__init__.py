"""The page of a run: static sections by Jinja, the review by the scripts of js/, one file."""

from clipscan.report.page import bundle
from clipscan.report.page.write import render, title_of, write_page

__all__ = ["bundle", "render", "title_of", "write_page"]
