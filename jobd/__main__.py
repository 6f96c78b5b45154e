"""`python -m jobd` is the program `jobd`."""

from __future__ import annotations

import sys

from jobd.daemon.cli import main

if __name__ == "__main__":
    sys.exit(main())
