"""
The operators' program, ./deploy/rentomatic: one module for each command, and what they share.

It runs on the host with nothing but Python and Docker, so it imports the standard library only, and nothing
of the site. main.py reads the command line; project.py knows the folder, docker.py talks to the engine.
"""
