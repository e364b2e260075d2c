"""How the embedded tiny base was made; `launch/make_tiny.py` starts it."""
