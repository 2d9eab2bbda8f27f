"""Work outside the web process: the queue, the workers, and who hands the one to the other."""
