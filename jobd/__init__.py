"""jobd: durable, capacity-aware container jobs on one Linux host."""

VERSION = "0.1.0"
