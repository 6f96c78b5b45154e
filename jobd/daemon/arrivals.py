"""Sets the intake going: dropped files, and watched paths."""

from __future__ import annotations

import logging
from collections.abc import Callable

from jobd.daemon.core_loop import CoreLoop
from jobd.daemon.dropping import Dropping
from jobd.daemon.kernel import DaemonKernel
from jobd.intake.spool import Spool
from jobd.journal.bodies import Bodies

_log = logging.getLogger(__name__)


def begin(spool: Spool, loop: CoreLoop, kernel: DaemonKernel, bodies: Bodies) -> Callable[[], None]:
    """Take what is dropped from now on; call what is returned to end it."""
    try:
        spool.open_root()
    except OSError as error:
        # no reason not to start: what is queued has to go on. It is tried again with each job's
        _log.warning("%s: cannot be made, nothing can be dropped: %s", spool.root, error.strerror)
    dropping = Dropping(loop, kernel, bodies, spool)
    loop.lookers.append(dropping.look)
    dropping.start()
    return dropping.close
