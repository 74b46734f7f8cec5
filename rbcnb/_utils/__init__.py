"""What several folders need and no user calls: whole files, locks, processes, Dask, pages."""
