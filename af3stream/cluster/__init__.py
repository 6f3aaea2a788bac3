"""Engines on other machines: what a gateway and an engine say to each other, and which engine a session goes to."""
