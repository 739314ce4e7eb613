"""A datatrove step that leaves out what a drop list names: pipeline = [reader, DropListed(run), writer]"""

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

import clipscan


class DropListed(BaseFilter):
    """Keeps a document by its id, or by the shard in its metadata and its id, where shards share keys."""

    name = "clipscan drop list"

    def __init__(self, run: str, shard: str | None = None, exclusion_writer=None):
        super().__init__(exclusion_writer)
        self.drop = clipscan.DropList.load(run)
        self.shard = shard  # name of the metadata field

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        sample = doc.id if self.shard is None else (doc.metadata[self.shard], doc.id)
        return (False, "clipscan") if sample in self.drop else True
