"""`python -m jobctl` is `jobctl`."""

from __future__ import annotations

import sys

from jobctl.cli import main

sys.exit(main())
