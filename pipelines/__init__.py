"""How data is made and models are trained."""
