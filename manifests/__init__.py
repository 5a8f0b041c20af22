"""What there is: records, provenance, licences, sources and shipped recipes. Imports the standard library alone."""
