"""Scripts that run beside a metric's own packages: they import nothing of pefomed_jax.

They keep to the Python of those packages (3.8 and later), and are started by path.
"""
