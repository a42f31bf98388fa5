"""Pages that say what a run came to, each one file that needs no network."""
