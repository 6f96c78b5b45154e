"""The thin client of jobd: the program `jobctl` and the Python API in `jobctl.client`."""

from jobd import VERSION as __version__

__all__ = ["__version__"]
