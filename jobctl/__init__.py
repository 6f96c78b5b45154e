"""The thin client of jobd: the program `jobctl` and the Python API in `jobctl.client`."""

#: a constant, because asking importlib.metadata costs more than the whole of `jobctl ls`
__version__ = "0.1.0"
