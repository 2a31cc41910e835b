"""The report: a page with plots that needs no script."""
