"""Sets the intake going: dropped files, and watched paths."""

from __future__ import annotations

from collections.abc import Callable

from jobd.daemon.core_loop import CoreLoop
from jobd.daemon.dropping import Dropping
from jobd.daemon.kernel import DaemonKernel
from jobd.errors import ConfigError
from jobd.intake.spool import Spool
from jobd.journal.bodies import Bodies


def begin(spool: Spool, loop: CoreLoop, kernel: DaemonKernel, bodies: Bodies) -> Callable[[], None]:
    """Take what is dropped from now on; call what is returned to end it. Raises ConfigError."""
    try:
        spool.open_root()
    except OSError as error:
        raise ConfigError(f"{spool.root}: cannot be made: {error.strerror}") from None
    dropping = Dropping(loop, kernel, bodies, spool)
    loop.lookers.append(dropping.look)
    dropping.start()
    return dropping.close
