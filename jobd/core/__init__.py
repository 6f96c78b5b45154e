"""The pure core: no clock, disk, network, engine, thread, randomness or logging."""
