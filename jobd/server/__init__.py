"""The socket: who asks, what for, and whether they may. Translates; decides nothing of its own."""
