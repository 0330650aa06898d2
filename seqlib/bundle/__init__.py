"""The saved-model folder: everything that turns text into text, checked by digests when it is read."""

from seqlib.bundle.folder import FORMAT_VERSION, Bundle, locate, read, read_record, write

__all__ = ["FORMAT_VERSION", "Bundle", "locate", "read", "read_record", "write"]
