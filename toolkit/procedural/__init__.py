"""Ray-cast scenes of solids whose layers are known exactly: the source ``procedural``, and an oracle for shadows."""
