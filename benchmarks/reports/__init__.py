"""The forms of a report: tables, pages, plots, pictures."""
