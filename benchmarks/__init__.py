"""How models are scored: suites, the runner and its reports."""
