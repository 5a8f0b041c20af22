"""How models are scored: suites, decomposers, the runner and its reports."""
