"""Every verb, declared once: its arguments, what it answers, and its manual.

The declarations stand in a module for each noun (`NOUN_MODULES` in jobd/wire/verb.py); this is all
of them, for who needs all: the server. A client looks up one verb (`verb.find`), which loads its
noun's module alone.

An argument is declared as `name: type`, with `?` behind the type where it may be left out. Types:
`str bytes int bool list map`. Times are integer milliseconds UTC, durations milliseconds, sizes
bytes. The server refuses unknown, missing and wrongly typed arguments by this declaration, so a
handler need not; and who has not the `right` (core/access.py): to the job that `job` names, or to
each run that `run` or `runs` select. The modules are on the client's hot path: plain tuples,
nothing computed.
"""

from __future__ import annotations

from jobd.wire import (
    alertverbs,
    hostverbs,
    jobverbs,
    runverbs,
    scheduleverbs,
    topicverbs,
    transferverbs,
)
from jobd.wire.verb import TIME_KEYS, Verb

__all__ = ["BY_NAME", "TIME_KEYS", "VERBS", "Verb"]

VERBS: tuple[Verb, ...] = (
    *hostverbs.VERBS,
    *jobverbs.VERBS,
    *runverbs.VERBS,
    *scheduleverbs.VERBS,
    *topicverbs.VERBS,
    *transferverbs.VERBS,
    *alertverbs.VERBS,
)

BY_NAME: dict[str, Verb] = {verb.name: verb for verb in VERBS}
