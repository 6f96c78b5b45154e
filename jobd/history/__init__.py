"""Finished runs that have left memory: archived, indexed, read back, and removed in time.

The archive (jobd/journal/archive.py) is what counts; the index over it, an SQLite file, is a cache:
deleted or damaged it is made anew from the archive. See FORMAT.md, "The archive".
"""
