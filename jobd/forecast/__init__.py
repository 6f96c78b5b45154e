"""What will probably happen: the core on copies of its state, with a clock that runs ahead."""
