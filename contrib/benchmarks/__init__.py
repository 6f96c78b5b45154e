"""jobd beside the job queues that can be installed, on the same work, on one machine."""
