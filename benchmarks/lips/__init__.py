"""How good a talking face is, measured on the finished film and on what the engine meant to show."""
