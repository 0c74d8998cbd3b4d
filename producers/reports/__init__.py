"""Reports on runs: figures, plots and their rendering."""
