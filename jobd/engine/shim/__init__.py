"""The shims of process attempts, which outlive jobd, and the server that forks them.

Nothing in here imports what it could do without (no dataclasses, json, logging, subprocess): what
is loaded has to be copied by each fork. The files a shim leaves are told in engine/PROCESS.md.
"""
