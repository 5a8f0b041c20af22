"""The shipped training recipes, one TOML file each; see :mod:`~layerkit.manifests.trainings`."""
