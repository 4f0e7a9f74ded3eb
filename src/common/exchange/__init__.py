"""Recurrent layers in files of either framework, old ones too: read, described, written, proven."""
