"""The shim of process attempts: a program of its own, one for each, that outlives jobd.

Nothing in here imports what it could do without (no dataclasses, json, logging, subprocess): the
program starts in some 20 ms and stays small. The files it leaves are told in engine/PROCESS.md.
"""
