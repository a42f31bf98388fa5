"""Programs for other runtimes: written, quantised, run."""
